// Package records asks presence where sessions are, and claims them.
//
//  1. A question goes to the first holder of the session's shard, as the
//     directory has it; while that is unknown, not ready or another by now it is
//     asked again, until the context ends.
//  2. [ErrUnknown] means that there is no such session: a holder said so that
//     has heard every edge. Any other error means that nobody knows.
package records

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/backoff"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
)

// The errors.
var (
	// ErrUnknown says that there is no such session.
	ErrUnknown = errors.New("there is no such session")
	// ErrMoved says that the session has another generation than was expected.
	ErrMoved = errors.New("the session was claimed meanwhile")
	// ErrTooMany says that a user has more sessions than were asked for.
	ErrTooMany = errors.New("the user has more sessions")
	// errNoHolder says that nobody holds the session's shard now.
	errNoHolder = errors.New("no presence process holds the session's record")
)

// Client asks holders. Safe for concurrent use.
type Client struct {
	view  func() membership.View
	conns *rpc.Pool
}

// New returns a Client; view returns the newest view of the directory.
func New(view func() membership.View, conns *rpc.Pool) *Client {
	return &Client{view: view, conns: conns}
}

// Kept reports whether sessions have records: some presence process was made a
// holder once.
func (c *Client) Kept(session string) bool {
	return c.view().Presence.Holders(shard.OfSession(session)).First != ""
}

// Locate says who is the home of a session.
func (c *Client) Locate(ctx context.Context, session string) (found *edgev1.LocateResponse, err error) {
	err = c.ask(ctx, session, func(ctx context.Context, holder edgev1.RecordServiceClient) error {
		found, err = holder.Locate(ctx, &edgev1.LocateRequest{Session: session})
		return err
	})
	return found, err
}

// Claim makes an edge, name@id, the home of a session whose generation is the
// expected one.
func (c *Client) Claim(
	ctx context.Context, session, edge string, expected *edgev1.Generation,
) (claimed *edgev1.ClaimResponse, err error) {
	err = c.ask(ctx, session, func(ctx context.Context, holder edgev1.RecordServiceClient) error {
		claimed, err = holder.Claim(ctx, &edgev1.ClaimRequest{Session: session, Edge: edge, Expected: expected})
		return err
	})
	return claimed, err
}

// ask asks the holder of a session until it answers.
func (c *Client) ask(
	ctx context.Context, session string, call func(context.Context, edgev1.RecordServiceClient) error,
) error {
	const each = 6 * time.Second // holders wait for 5 s themselves
	pace := backoff.Policy{Base: 20 * time.Millisecond, Max: 500 * time.Millisecond}
	for failures := 1; ; failures++ {
		err := c.try(ctx, each, session, call)
		switch code := status.Code(err); {
		case err == nil:
			return nil
		case code == codes.NotFound && rpc.Reason(err) == channelv1.ErrorReason_ERROR_REASON_SESSION_UNKNOWN:
			return ErrUnknown
		case code == codes.Aborted && rpc.Reason(err) == channelv1.ErrorReason_ERROR_REASON_MOVED:
			return ErrMoved
		case ctx.Err() != nil:
			return fmt.Errorf("record of session %s: %w", session, err)
		}
		backoff.Pause(ctx, pace.Delay(failures))
	}
}

func (c *Client) try(
	ctx context.Context, within time.Duration, session string, call func(context.Context, edgev1.RecordServiceClient) error,
) error {
	holder, err := c.holder(session)
	if err != nil {
		return err
	}
	conn, err := c.conns.Conn(holder.Addr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return call(ctx, edgev1.NewRecordServiceClient(conn))
}

// holder returns the first holder of a session's record.
func (c *Client) holder(session string) (membership.Node, error) {
	view := c.view()
	if n, ok := view.Node(view.Presence.Holders(shard.OfSession(session)).First); ok {
		return n, nil
	}
	return membership.Node{}, errNoHolder
}
