package records

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/backoff"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
)

// Sessions returns the public ids of all sessions of a user, in order, as the
// first holders of all shards know them; [ErrTooMany] if there are more than
// most. Until all holders answer they are asked again.
func (c *Client) Sessions(ctx context.Context, user string, most int) ([]string, error) {
	pace := backoff.Policy{Base: 20 * time.Millisecond, Max: 500 * time.Millisecond}
	var last error
	for failures := 1; ; failures++ {
		sessions, err := c.gather(ctx, user, most)
		switch {
		case err == nil:
			slices.Sort(sessions)
			return sessions, nil
		case errors.Is(err, ErrTooMany):
			return nil, err
		case ctx.Err() != nil:
			return nil, fmt.Errorf("sessions of user %s: %w", user, cmp.Or(last, err))
		}
		last = err
		backoff.Pause(ctx, pace.Delay(failures))
	}
}

// gather asks all holders once.
func (c *Client) gather(ctx context.Context, user string, most int) ([]string, error) {
	shares, err := c.shares()
	if err != nil {
		return nil, err
	}
	lists, errs := make([][]string, len(shares)), make([]error, len(shares))
	var asked sync.WaitGroup
	for i, s := range shares {
		asked.Go(func() { lists[i], errs[i] = c.sessionsAt(ctx, s, user, most) })
	}
	asked.Wait()
	all := slices.Concat(lists...)
	var first error // or the one that says most
	for _, err := range errs {
		if err != nil && (first == nil || errors.Is(err, ErrTooMany)) {
			first = err
		}
	}
	if first != nil {
		return nil, first
	}
	if len(all) > most {
		return nil, ErrTooMany
	}
	return all, nil
}

// share is the shards of one first holder, as calls name them.
type share struct {
	holder membership.Node
	shards []byte
}

// shares are those of all first holders.
func (c *Client) shares() (shares []share, err error) {
	view := c.view()
	for n := range shard.PresenceShard(shard.PresenceShards) {
		holder, ok := view.Node(view.Presence.Holders(n).First)
		if !ok {
			return nil, errNoHolder
		}
		i := slices.IndexFunc(shares, func(s share) bool { return s.holder.Name == holder.Name })
		if i < 0 {
			i = len(shares)
			shares = append(shares, share{holder, make([]byte, shard.PresenceShards/8)})
		}
		shares[i].shards[n/8] |= 1 << (n % 8)
	}
	return shares, nil
}

// sessionsAt asks one holder, page by page.
func (c *Client) sessionsAt(ctx context.Context, s share, user string, most int) (sessions []string, err error) {
	conn, err := c.conns.Conn(s.holder.Addr)
	if err != nil {
		return nil, err
	}
	req := &edgev1.SessionsRequest{Shards: s.shards, User: user, IdsOnly: true}
	for {
		resp, err := edgev1.NewHolderServiceClient(conn).Sessions(ctx, req)
		if err != nil {
			return nil, err
		}
		for _, found := range resp.GetList().GetSessions() {
			sessions = append(sessions, found.GetSession())
		}
		if len(sessions) > most {
			return nil, ErrTooMany
		}
		if !resp.GetMore() || len(resp.GetList().GetSessions()) == 0 {
			return sessions, nil
		}
		req.After = sessions[len(sessions)-1]
	}
}
