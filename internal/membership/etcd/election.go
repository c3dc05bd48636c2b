package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/comet-push/comet/internal/backoff"
	"github.com/comet-push/comet/internal/membership"
)

// Campaign implements [membership.Directory]. The candidate has a lease of its
// own: one that was out of reach for its length stops leading, and campaigns
// anew if its caller does.
func (d *Directory) Campaign(ctx context.Context, candidate string) (membership.Leadership, error) {
	for {
		l, err := d.campaign(ctx, candidate)
		if err == nil {
			return l, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("campaign as %s: %w", candidate, context.Cause(ctx))
		}
		d.log.Debug("campaign interrupted", slog.String("candidate", candidate), slog.Any("error", err))
		backoff.Pause(ctx, retryEvery)
	}
}

// campaign is one try; it ends when the candidate's lease does.
func (d *Directory) campaign(ctx context.Context, candidate string) (*leadership, error) {
	granting, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	lease, err := d.client.Grant(granting, d.seconds())
	if err != nil {
		return nil, fmt.Errorf("ask for a lease: %w", err)
	}
	session, err := concurrency.NewSession(d.client, concurrency.WithLease(lease.ID))
	if err != nil {
		return nil, fmt.Errorf("keep the lease: %w", err)
	}
	l := &leadership{d: d, session: session, election: concurrency.NewElection(session, d.keys.election())}

	ctx, cancel = context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(session.Ctx(), cancel)() //nolint:contextcheck // joins two contexts
	if err := l.election.Campaign(clientv3.WithRequireLeader(ctx), candidate); err != nil {
		l.Resign(ctx)
		return nil, err
	}
	d.log.Info("elected to place slots", slog.String("candidate", candidate))
	return l, nil
}

// leadership is a won election.
type leadership struct {
	d        *Directory
	session  *concurrency.Session
	election *concurrency.Election
}

// Lost implements [membership.Leadership].
func (l *leadership) Lost() <-chan struct{} { return l.session.Done() }

// Resign implements [membership.Leadership].
func (l *leadership) Resign(ctx context.Context) {
	l.session.Orphan()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	if _, err := l.d.client.Revoke(ctx, l.session.Lease()); err != nil {
		l.d.log.Debug("leadership not given back; its lease runs out", slog.Any("error", err))
	}
}

// Write implements [membership.Leadership].
func (l *leadership) Write(ctx context.Context, c membership.Change) error {
	_, err := l.d.swap(ctx, c, l.leads())
	if err = l.ends(err); err != nil {
		return fmt.Errorf("write slot %d: %w", c.Slot, err)
	}
	return nil
}

// WriteHolders implements [membership.Leadership].
func (l *leadership) WriteHolders(ctx context.Context, c membership.HoldersChange) error {
	_, err := l.d.swapHolders(ctx, c, l.leads())
	if err = l.ends(err); err != nil {
		return fmt.Errorf("write presence shard %d: %w", c.Shard, err)
	}
	return nil
}

// leads is the guard of what the leader writes.
func (l *leadership) leads() clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(l.election.Key()), "=", l.election.Rev())
}

// ends takes the end of the leadership from the error of a write.
func (l *leadership) ends(err error) error {
	if errors.Is(err, errGuard) {
		l.session.Orphan()
		return membership.ErrNotLeader
	}
	return err
}
