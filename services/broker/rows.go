package broker

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
)

// follow tells what the directory shows, until ctx ends.
func (s *places) follow(ctx context.Context) error {
	for view := range s.directory.Watch(ctx) {
		s.see(view)
	}
	return nil
}

// see tells the places of a view.
func (s *places) see(view membership.View) {
	s.view.Store(&view)
	s.mesh.Peers(s.peers(view))
	for n := range s.all {
		p := &s.all[n]
		if row := view.Table.Row(p.number); row.Version > p.version.Load() {
			s.tellRow(p, row)
		}
		s.tellLost(p, view)
	}
}

// tellRow tells a row that was watched, read or written.
func (s *places) tellRow(p *place, row shard.Row) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.tellRowLocked(p, row)
}

func (s *places) tellRowLocked(p *place, row shard.Row) {
	if p.renewed.IsZero() { // the first row: do not make publishers wait for a tick
		s.tellRenewed(p, s.directory.Renewed())
	}
	p.note(row)
	s.tellLocked(p, func(now time.Time) { p.replica.Row(now, row, &p.effects) })
}

// note takes note of a row that the machine is told, if it is new.
func (p *place) note(row shard.Row) {
	if row.Version <= p.row.Version {
		return
	}
	if row.Term != p.row.Term {
		p.began = row.Version
	}
	p.row = row
	p.version.Store(row.Version)
}

// tellLost tells of members whose name another has by now.
func (s *places) tellLost(p *place, view membership.View) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for m := range members(p.row) {
		if replaced(view, m) {
			s.tellLocked(p, func(now time.Time) { p.replica.Lost(now, m, &p.effects) })
		}
	}
}

// members are those that hold a slot, or should.
func members(row shard.Row) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, m := range row.InSync {
			if !yield(m) {
				return
			}
		}
		for _, m := range row.Replicas {
			if !slices.Contains(row.InSync, m) && !yield(m) {
				return
			}
		}
	}
}

// replaced reports whether another log-id is announced under a member's name.
func replaced(view membership.View, member string) bool {
	name, id, _ := strings.Cut(member, "@")
	other, announced := view.Nodes[name]
	return announced && other.ID != id
}

// peers are the brokers to be connected with: all that are announced, and who
// shares a slot with this one even if the directory has lost sight of it.
func (s *places) peers(view membership.View) []membership.Node {
	next := map[string]membership.Node{}
	for _, b := range view.With(membership.Broker) {
		next[b.Member()] = b
	}
	for n := range shard.Slot(shard.Slots) {
		row := view.Table.Row(n)
		if !slices.Contains(row.InSync, s.self) && !slices.Contains(row.Replicas, s.self) {
			continue
		}
		for m := range members(row) {
			if b, known := s.nodes[m]; known && !replaced(view, m) {
				if _, announced := next[m]; !announced {
					next[m] = b
				}
			}
		}
	}
	delete(next, s.self)
	s.nodes = next
	return slices.Collect(maps.Values(next))
}

// tick tells the time, until ctx ends.
func (s *places) tick(ctx context.Context) error {
	tick := time.NewTicker(s.cfg.tickEvery())
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.tellTime()
		}
	}
}

// tellTime tells the places that a tick has passed, and of the lease.
func (s *places) tellTime() {
	sent := s.directory.Renewed()
	lapsed := !s.renewed.IsZero() && sent.Sub(s.renewed) > s.cfg.Lease
	s.renewed = sent
	s.each(func(p *place) {
		if lapsed {
			// Of what happened without a lease the last rows heard know nothing.
			p.lapsed = true
			s.clerk.read(p)
		}
		s.tellRenewed(p, sent)
		s.tellLocked(p, func(now time.Time) { p.replica.Tick(now, &p.effects) })
		if p.relays && p.fanOut.Followed() {
			s.tellLocked(p, func(now time.Time) { p.replica.Followed(now, &p.effects) })
		}
		p.wake()
	})
}

// tellRenewed tells of the lease, if it can be relied on.
func (s *places) tellRenewed(p *place, sent time.Time) {
	if !p.lapsed && sent.After(p.renewed) {
		p.renewed = sent
		s.tellLocked(p, func(now time.Time) { p.replica.Renewed(now, sent, &p.effects) })
	}
}
