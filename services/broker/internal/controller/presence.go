package controller

import (
	"context"
	"log/slog"
	"time"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/holding"
)

// actPresence has the rows of presence shards written as they should be.
func (r *reign) actPresence(ctx context.Context, now time.Time) {
	if !r.shards.free(now) {
		return
	}
	plan := r.holding.Plan(holding.View{
		Table: r.view.Presence, Processes: processes(r.view), Cautious: now.Before(r.cautious),
	}, now)
	r.shards.settled = plan.Settled
	var changes []change[shard.PresenceShard]
	for _, c := range plan.Changes {
		changes = append(changes, change[shard.PresenceShard]{
			row: c.Shard, replaces: c.Holders.Version, why: string(c.Why), urgent: c.Why == holding.Gone || c.Why == holding.Unassigned,
			write: func(ctx context.Context) error {
				return r.leadership.WriteHolders(ctx, membership.HoldersChange{
					Shard: c.Shard, Holders: c.Holders, Absent: c.Absent, Present: c.Present,
				})
			},
		})
	}
	r.shards.begin(ctx, r, changes, now)
}

// processes are the presence processes that are announced.
func processes(view membership.View) []holding.Process {
	var all []holding.Process
	for _, n := range view.With(membership.Presence) {
		all = append(all, holding.Process{Member: n.Member(), Zone: n.Zone, Draining: n.Draining})
	}
	return all
}

func (r *reign) holdersVersion(n shard.PresenceShard) int64 {
	return r.view.Presence.Holders(n).Version
}

// notePresence takes what became of changes of presence shards; see note.
func (r *reign) notePresence(w written[shard.PresenceShard]) (current bool, err error) {
	done, current, err := r.shards.note(w, r.holdersVersion)
	for why, n := range done.counts {
		r.cfg.Logger.Info("wrote holders of presence shards", slog.String("reason", why), slog.Int("shards", n))
	}
	if done.failed != nil {
		r.cfg.Logger.Warn("holders of presence shards may not have been written; looking again", slog.Any("error", done.failed))
	}
	return current, err
}
