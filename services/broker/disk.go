package broker

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/comet-push/comet/internal/run"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/disk"
	"github.com/comet-push/comet/services/broker/internal/replica"
)

// Disk is an open data directory. Its ID is the ID of the broker's node.
type Disk = disk.Store

// DiskConfig says where a data directory is, and how it is written.
type DiskConfig = disk.Config

// OpenDisk opens a data directory, or makes one. Its errors say what to do. The
// broker that is given it closes it at the end of Run; else it is to be closed.
func OpenDisk(cfg DiskConfig) (*Disk, error) {
	return disk.Open(cfg) //nolint:wrapcheck // it names the directory
}

// Loaded is closed when the broker has all that its data directory holds: the
// node is not to be announced before.
func (s *Service) Loaded() <-chan struct{} { return s.loaded }

// load makes the slots what the data directory holds.
func (s *Service) load(ctx context.Context) error {
	if s.deps.Disk == nil {
		close(s.loaded)
		return nil
	}
	cluster, err := s.deps.Directory.ClusterID(ctx)
	if err != nil {
		return fmt.Errorf("ask for the id of the cluster: %w", err)
	}
	if err := s.deps.Disk.Join(cluster); err != nil {
		return err //nolint:wrapcheck // it says what to do
	}
	if err := s.places.load(ctx, s.deps.Disk); err != nil {
		return err
	}
	close(s.loaded)
	return nil
}

// load makes the places what the data directory holds, before anybody else
// knows of them.
func (s *places) load(ctx context.Context, d *disk.Store) error {
	begin := time.Now()
	var loaded, bytes atomic.Int64
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for n := range s.all {
		group.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			p := &s.all[n]
			if err := s.loadPlace(p, d); err != nil {
				return err
			}
			bytes.Add(int64(p.log.History().Bytes()))
			if n := loaded.Add(1); n%32 == 0 && time.Since(begin) > time.Second {
				s.logger.Info("loading slots", slog.Int64("loaded", n), slog.Int("of", shard.Slots))
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err //nolint:wrapcheck // it names the slot
	}
	s.logger.Info("loaded slots", slog.Int64("history_bytes", bytes.Load()), slog.Duration("took", time.Since(begin)))
	return nil
}

func (s *places) loadPlace(p *place, d *disk.Store) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	journal, err := d.Load(p.number, p.log)
	if err != nil {
		return err //nolint:wrapcheck // it names the slot
	}
	p.journal = journal
	p.replica = replica.New(s.machine(), p.log)
	return nil
}

// keep writes what slots tell their journals.
func (s *Service) keep() run.Component {
	return run.Func(func(ctx context.Context) error {
		if s.deps.Disk == nil {
			<-ctx.Done()
			return nil
		}
		defer s.lost.Store(true)
		return s.deps.Disk.Run(ctx, s.places) //nolint:wrapcheck // it says which disk
	})
}

// Synced implements [disk.Handler].
func (s *places) Synced(n shard.Slot, m disk.Mark) {
	p := &s.all[n]
	s.tell(p, func(now time.Time) {
		p.journal.Synced(m)
		p.replica.Synced(now, &p.effects)
	})
}

// Checkpoint implements [disk.Handler].
func (s *places) Checkpoint(n shard.Slot) {
	s.all[n].locked(func(p *place) { p.journal.Checkpoint(p.log.Snapshot()) })
}
