package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/comet-push/comet/internal/shard"
)

// work writes until ctx ends, and then what is left.
func (s *Store) work(ctx context.Context, h Handler) {
	for ending := false; ; {
		more, err := s.round(h)
		switch {
		case err != nil:
			s.fail(err)
			return
		case more:
		case ending:
			return
		default:
			select {
			case <-ctx.Done():
				ending = true
			case <-s.wake:
			}
		}
	}
}

// guard makes a failure of a panic of the database.
func (s *Store) guard() {
	if r := recover(); r != nil {
		err, ok := r.(error)
		if !ok {
			err = fmt.Errorf("%w: %v", errPanic, r)
		}
		s.fail(err)
	}
}

var errPanic = errors.New("the database gave up")

// round writes one batch of what has queued, and tells what is kept then; more:
// something is left.
func (s *Store) round(h Handler) (more bool, err error) {
	s.take()
	b := s.db.NewBatch()
	defer func() { err = errors.Join(err, b.Close()) }()
	var before [shard.Slots]uint64
	for n, j := range s.journals {
		before[n] = j.writer.done
	}
	more, err = s.fill(b)
	if err != nil {
		return false, fmt.Errorf("prepare a batch: %w", err)
	}
	if b.Empty() {
		return more, nil
	}
	if err := s.commit(b); err != nil {
		return false, err
	}
	snapshots := 0
	for n, j := range s.journals {
		if j.writer.asked || j.writer.snapshot != nil {
			snapshots++
		}
		if j.writer.done > before[n] {
			h.Synced(j.number, Mark{j.writer.done, j.writer.state.end})
		}
	}
	for _, j := range s.journals {
		if snapshots < maxSnapshots && j.writer.outgrown(s.pace.checkpoint) {
			snapshots++
			j.writer.asked = true
			h.Checkpoint(j.number)
		}
	}
	return more, nil
}

// take takes what has queued.
func (s *Store) take() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.journals {
		j.writer.todo = append(j.writer.todo, j.changes...)
		clear(j.changes)
		j.changes = j.changes[:0]
	}
}

// fill puts changes and pieces of snapshots into a batch, beginning with
// another slot each time; more: not all of it had room.
func (s *Store) fill(b *pebble.Batch) (more bool, err error) {
	s.first++
	written, turn := 0, s.pace.turn
	defer func() { s.free(written) }()
	for i := range s.journals {
		j := s.journals[(s.first+i)%len(s.journals)]
		if b.Len() < s.pace.batch {
			n, err := j.apply(b)
			written += n
			if err != nil {
				return false, err
			}
		}
		n, err := j.proceed(b, turn)
		turn -= n
		if err != nil {
			return false, err
		}
		more = more || len(j.writer.todo) > 0 || j.writer.snapshot != nil
	}
	return more, nil
}

// free takes note that so much does not wait any more.
func (s *Store) free(bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes -= bytes
}

// commit writes a batch.
func (s *Store) commit(b *pebble.Batch) error {
	s.batches++
	if err := b.Set([]byte{countKey}, binary.BigEndian.AppendUint64(nil, s.batches), nil); err != nil {
		return fmt.Errorf("count a batch: %w", err)
	}
	how := pebble.Sync
	if s.cfg.Interval {
		how = pebble.NoSync
	}
	begin := time.Now()
	s.metrics.written.Add(float64(b.Len()))
	if err := b.Commit(how); err != nil {
		return fmt.Errorf("write a batch: %w", err)
	}
	s.metrics.syncs.Observe(time.Since(begin).Seconds())
	return nil
}

// syncs makes the disk sync what was written, again and again until ctx ends.
func (s *Store) syncs(ctx context.Context) {
	tick := time.NewTicker(s.cfg.SyncEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		begin := time.Now()
		if err := s.db.LogData(nil, pebble.Sync); err != nil {
			s.fail(fmt.Errorf("sync: %w", err))
			return
		}
		s.metrics.syncs.Observe(time.Since(begin).Seconds())
	}
}
