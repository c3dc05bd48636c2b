package presence

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/status"

	presencev1 "github.com/comet-push/comet/gen/comet/presence/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
)

// others returns the processes that are the first holders of shards beside this
// one.
func (s *Service) others() ([]membership.Node, error) {
	s.mu.Lock()
	view := s.view
	s.mu.Unlock()
	seen := map[string]bool{s.self: true}
	var nodes []membership.Node
	for p := range shard.PresenceShard(shard.PresenceShards) {
		member := view.Presence.Holders(p).First
		if seen[member] {
			continue
		}
		seen[member] = true
		n, announced := view.Node(member)
		if !announced {
			return nil, notReady("presence process %s is lost, and another takes its part over; try again", nameOf(member))
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// other is the door for nodes of another process.
func (s *Service) other(n membership.Node) (presencev1.PresenceServiceClient, error) {
	conn, err := s.deps.Conns.Conn(n.Addr)
	if err != nil {
		return nil, otherFails(n, err)
	}
	return presencev1.NewPresenceServiceClient(conn), nil
}

func otherFails(n membership.Node, err error) error {
	return notReady("presence process %s cannot be asked: %s; try again", n.Name, status.Convert(err).Message())
}

// askOthers asks the other processes the same, at once, and adds what they say.
func askOthers[R any](
	ctx context.Context, q *queries, ask func(context.Context, presencev1.PresenceServiceClient) (R, error), add func(R),
) error {
	if !q.everywhere {
		return nil
	}
	nodes, err := q.service.others()
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	var mu sync.Mutex
	for _, n := range nodes {
		group.Go(func() error {
			client, err := q.service.other(n)
			if err != nil {
				return err
			}
			more, err := ask(ctx, client)
			if err != nil {
				return otherFails(n, err)
			}
			mu.Lock()
			defer mu.Unlock()
			add(more)
			return nil
		})
	}
	return group.Wait()
}

// watch sends what happens on a roster, here and at the other processes, until
// ctx ends, or one of them cannot say any more.
func (q *queries) watch(ctx context.Context, req *presencev1.WatchRosterRequest, send func(*presencev1.WatchRosterResponse) error) error {
	var nodes []membership.Node
	if q.everywhere {
		var err error
		if nodes, err = q.service.others(); err != nil {
			return err
		}
	}
	var mu sync.Mutex // of send, and of count
	count := uint64(0)
	one := func(e *presencev1.WatchRosterResponse) error {
		mu.Lock()
		defer mu.Unlock()
		if e.GetJoined() != nil {
			count++
		} else {
			count--
		}
		e.Count = count
		return send(e)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return q.watchHere(ctx, req.GetChannel(), one) })
	for _, n := range nodes {
		group.Go(func() error { return q.watchThere(ctx, n, req, one) })
	}
	return group.Wait()
}

func (q *queries) watchThere(
	ctx context.Context, n membership.Node, req *presencev1.WatchRosterRequest, send func(*presencev1.WatchRosterResponse) error,
) error {
	client, err := q.service.other(n)
	if err != nil {
		return err
	}
	stream, err := client.WatchRoster(ctx, req)
	if err != nil {
		return otherFails(n, err)
	}
	for {
		e, err := stream.Recv()
		if err != nil {
			return otherFails(n, err)
		}
		if err := send(e); err != nil {
			return err
		}
	}
}
