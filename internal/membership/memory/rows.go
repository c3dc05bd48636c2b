package memory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
)

var (
	errUnreachable = errors.New("the store cannot be reached")
	errNoSlot      = errors.New("no such slot")
	errNoShard     = errors.New("no such presence shard")
)

// Swap implements [membership.Directory].
func (d *Directory) Swap(ctx context.Context, c membership.Change) (version int64, err error) {
	version, err = d.swap(ctx, c, nil)
	if err != nil {
		return 0, fmt.Errorf("swap slot %d: %w", c.Slot, err)
	}
	return version, nil
}

// swap writes a slot's row if the change's conditions hold, and leader, if there
// is one, leads.
func (d *Directory) swap(ctx context.Context, c membership.Change, leader *leadership) (version int64, err error) {
	return d.replace(ctx, func(s *Store) (int64, error) { return s.swap(c, leader) })
}

// replace has the store make a change of a row.
func (d *Directory) replace(ctx context.Context, change func(*Store) (int64, error)) (version int64, err error) {
	if err := d.travel(ctx); err != nil {
		return 0, err
	}
	if err := d.store.queue(ctx); err != nil {
		return 0, err
	}
	version, refusal := change(d.store)
	if err := d.travel(ctx); err != nil {
		return 0, err
	}
	return version, refusal
}

// queue waits until the changes that came before are made, and the next is.
func (s *Store) queue(ctx context.Context) error {
	s.mu.Lock()
	if now := time.Now(); s.free.Before(now) {
		s.free = now
	}
	s.free = s.free.Add(s.effort)
	wait := time.Until(s.free)
	s.mu.Unlock()
	if wait <= 0 {
		return nil
	}
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Store) swap(c membership.Change, leader *leadership) (version int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.Slot >= shard.Slots {
		return 0, errNoSlot
	}
	current := s.table.Row(c.Slot).Version == c.Row.Version
	if err := s.refusalLocked(current, c.Absent, c.Present, leader); err != nil {
		return 0, err
	}
	s.version++
	row := c.Row
	row.InSync, row.Replicas = slices.Clone(row.InSync), slices.Clone(row.Replicas)
	row.Version = s.version
	s.table = s.table.With(map[shard.Slot]shard.Row{c.Slot: row})
	if s.trace != nil {
		s.trace(c.Slot, row)
	}
	s.publishLocked()
	return s.version, nil
}

func (s *Store) swapHolders(c membership.HoldersChange, leader *leadership) (version int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.Shard >= shard.PresenceShards {
		return 0, errNoShard
	}
	current := s.presence.Holders(c.Shard).Version == c.Holders.Version
	if err := s.refusalLocked(current, c.Absent, c.Present, leader); err != nil {
		return 0, err
	}
	s.version++
	c.Holders.Version = s.version
	s.presence = s.presence.With(map[shard.PresenceShard]shard.Holders{c.Shard: c.Holders})
	s.publishLocked()
	return s.version, nil
}

// refusalLocked says why a change does not apply, of a row that is, or is not,
// current.
func (s *Store) refusalLocked(current bool, absent, present []string, leader *leadership) error {
	switch {
	case leader != nil && s.leader != leader:
		return membership.ErrNotLeader
	case !current, slices.ContainsFunc(absent, s.announcesLocked), !all(present, s.announcesLocked):
		return membership.ErrConflict
	}
	return nil
}

func all(members []string, ok func(string) bool) bool {
	return !slices.ContainsFunc(members, func(m string) bool { return !ok(m) })
}

func (s *Store) announcesLocked(member string) bool {
	for _, e := range s.announced {
		if e.node.Member() == member {
			return true
		}
	}
	return false
}

// Row implements [membership.Directory].
func (d *Directory) Row(ctx context.Context, n shard.Slot) (shard.Row, error) {
	if err := d.travel(ctx); err != nil {
		return shard.Row{}, fmt.Errorf("read slot %d: %w", n, err)
	}
	if n >= shard.Slots {
		return shard.Row{}, fmt.Errorf("read slot %d: %w", n, errNoSlot)
	}
	row := d.store.row(n)
	if err := d.travel(ctx); err != nil {
		return shard.Row{}, fmt.Errorf("read slot %d: %w", n, err)
	}
	return row, nil
}

func (s *Store) row(n shard.Slot) shard.Row {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.table.Row(n)
}

// ClusterID implements [membership.Directory].
func (d *Directory) ClusterID(ctx context.Context) (string, error) {
	if err := d.travel(ctx); err != nil {
		return "", fmt.Errorf("read the cluster's id: %w", err)
	}
	return d.store.id, nil
}

// ask says why the store does not answer.
func (d *Directory) ask(ctx context.Context) error {
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case !d.reachesLocked():
		return errUnreachable
	}
	return nil
}

// Renewed implements [membership.Directory]. In reach of the store, a lease is
// renewed at all times.
func (d *Directory) Renewed() time.Time {
	d.store.mu.Lock()
	for d.thawed != nil {
		thawed := d.thawed
		d.store.mu.Unlock()
		<-thawed
		d.store.mu.Lock()
	}
	defer d.store.mu.Unlock()
	d.renewLocked()
	return d.renewed
}

// renewLocked renews the handle's leases, if it can.
func (d *Directory) renewLocked() {
	if !d.reachesLocked() {
		return
	}
	for r := range d.registrations {
		if d.store.announced[r.node.Name].by == r {
			d.renewed = time.Now()
		}
	}
}
