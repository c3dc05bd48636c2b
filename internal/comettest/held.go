package comettest

import (
	"context"
	"time"

	"github.com/comet-push/comet/internal/config"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
)

// Held waits until every presence shard has holders that run: two, or as many
// as there are processes.
func (c *Cluster) Held(within time.Duration) {
	c.t.Helper()
	c.awaitHolders(within, c.held)
}

// HeldEvenly waits until, too, all presence processes are back and hold as many
// shards as each other, and are first of as many.
func (c *Cluster) HeldEvenly(within time.Duration) {
	c.t.Helper()
	c.awaitHolders(within, func(v membership.View) bool {
		processes := v.With(membership.Presence)
		var firsts, holds span
		for _, n := range processes {
			own := v.Presence.Held(n.Member())
			first := 0
			for _, s := range own {
				if v.Presence.Holders(s).First == n.Member() {
					first++
				}
			}
			firsts.add(first)
			holds.add(len(own))
		}
		return c.held(v) && len(processes) == c.options.Presence && firsts.even() && holds.even()
	})
}

// span is the least and the most of some numbers.
type span struct {
	seen        bool
	least, most int
}

func (s *span) add(n int) {
	if !s.seen {
		s.seen, s.least, s.most = true, n, n
	}
	s.least, s.most = min(s.least, n), max(s.most, n)
}

func (s *span) even() bool { return s.most-s.least <= 1 }

func (c *Cluster) awaitHolders(within time.Duration, ok func(membership.View) bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	for view := range c.Store.Directory().Watch(ctx) {
		if ok(view) {
			return
		}
	}
	c.t.Fatalf("presence shards lack holders after %v", within)
}

// held reports whether every presence shard has as many holders as there can be.
func (c *Cluster) held(v membership.View) bool {
	running := map[string]bool{} // by member
	for _, n := range c.nodes {
		if n.Target == config.Presence && n.stop != nil {
			running[n.Process.Node().Member()] = true
		}
	}
	for s := range shard.PresenceShard(shard.PresenceShards) {
		there := 0
		h := v.Presence.Holders(s)
		for _, member := range []string{h.First, h.Second} {
			if running[member] {
				there++
			}
		}
		if there < min(len(running), 2) || h.First != "" && !running[h.First] {
			return false
		}
	}
	return true
}
