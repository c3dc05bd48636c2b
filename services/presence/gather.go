package presence

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
)

const (
	// askWithin is how long another process may take to answer.
	askWithin = 5 * time.Second
	// againAfter is how long to wait for news of who holds what if processes do
	// not agree about it.
	againAfter = 100 * time.Millisecond
)

// group is the shards of one first holder.
type group struct {
	node   membership.Node
	shards []byte
}

// groups says whom to ask about all sessions, in order; news is closed when that
// may have changed.
func (s *Service) groups() (groups []group, news <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view == nil {
		return nil, s.news, notReady("presence does not know yet which edges there are; try again")
	}
	by := map[string][]shard.PresenceShard{}
	for n := range shard.PresenceShard(shard.PresenceShards) {
		first := s.view.Presence.Holders(n).First
		by[first] = append(by[first], n)
	}
	for _, member := range slices.Sorted(maps.Keys(by)) {
		node, ok := s.view.Node(member)
		switch {
		case member == s.deps.Node.Member():
			node = s.deps.Node
		case !ok:
			return nil, s.news, notReady("%d of %d shards of presence have no first holder; try again", len(by[member]), shard.PresenceShards)
		}
		groups = append(groups, group{node, bitmap(by[member])})
	}
	return groups, s.news, nil
}

// client returns what a process is asked through; nil: this one.
func (s *Service) client(g group) (edgev1.HolderServiceClient, error) {
	if g.node.Member() == s.deps.Node.Member() {
		return nil, nil //nolint:nilnil // as documented
	}
	conn, err := s.deps.Conns.Conn(g.node.Addr)
	if err != nil {
		return nil, err
	}
	return edgev1.NewHolderServiceClient(conn), nil
}

// gather asks the first holders of all shards. If they do not agree with this
// process about who that is it waits for news, for a while.
func gather[A any](ctx context.Context, s *Service, ask func(context.Context, group) (A, error)) ([]A, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	for begun := time.Now(); ; {
		groups, news, err := s.groups()
		if err != nil {
			return nil, err
		}
		answers, errs := make([]A, len(groups)), make([]error, len(groups))
		var asked sync.WaitGroup
		for i, g := range groups {
			asked.Go(func() { answers[i], errs[i] = ask(ctx, g) })
		}
		asked.Wait()
		failed := slices.IndexFunc(errs, func(err error) bool { return err != nil })
		if failed < 0 {
			return answers, nil
		}
		if rpc.Reason(errs[failed]) != channelv1.ErrorReason_ERROR_REASON_MOVED || time.Since(begun) > rowWithin {
			return nil, unanswered(groups[failed], errs[failed])
		}
		again := time.NewTimer(againAfter)
		select {
		case <-news:
		case <-again.C:
		}
		again.Stop()
	}
}

// unanswered says to a backend why a holder did not answer.
func unanswered(g group, err error) error {
	switch rpc.Reason(err) {
	case channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED, channelv1.ErrorReason_ERROR_REASON_NOT_READY:
		return err
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.FailedPrecondition, codes.DeadlineExceeded, codes.Unimplemented:
		return notReady("presence process %s cannot be asked: %v; try again", g.node.Name, err)
	}
	return fmt.Errorf("ask presence process %s: %w", g.node.Name, err)
}

// sameGroups reports whether the same processes are to be asked about the same
// shards.
func sameGroups(a, b []group) bool {
	return slices.EqualFunc(a, b, func(a, b group) bool {
		return a.node.Member() == b.node.Member() && bytes.Equal(a.shards, b.shards)
	})
}

// merge makes one list, ordered by session, of several that are.
func merge[E interface{ GetSession() string }](lists [][]E) []E {
	var all []E
	for _, list := range lists {
		all = append(all, list...)
	}
	slices.SortFunc(all, func(a, b E) int { return cmp.Compare(a.GetSession(), b.GetSession()) })
	return all[:min(len(all), maxListed)]
}
