package controller_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/placement"
)

// presence starts a presence process.
func (f *fixture) presence(name, id string) *process {
	return f.announce(membership.Node{Name: name, ID: id, Roles: []membership.Role{membership.Presence}, Addr: name + ":7070"})
}

// whole waits until every presence shard has two holders that are announced and
// stay, but not those named, and says how long that took.
func (f *fixture) whole(within time.Duration, but ...string) time.Duration {
	f.t.Helper()
	begin := time.Now()
	for ; time.Since(begin) < within; time.Sleep(20 * time.Millisecond) {
		v, whole := f.view(), true
		for n := range shard.PresenceShard(shard.PresenceShards) {
			h := v.Presence.Holders(n)
			first, there := v.Node(h.First)
			second, too := v.Node(h.Second)
			whole = whole && there && too && !first.Draining && !second.Draining
			for _, member := range but {
				whole = whole && !h.Has(member)
			}
		}
		if whole {
			return time.Since(begin)
		}
	}
	f.t.Fatalf("presence shards lack holders after %v", within)
	return 0
}

func TestPresenceShardsAreHeld(t *testing.T) {
	tests := []struct {
		name string
		do   func(f *fixture, p *process)
		gone string
		max  time.Duration
	}{
		{"crash", func(_ *fixture, p *process) { p.dir.Kill() }, "p@1", lease + time.Second},
		{"back with another id", func(f *fixture, p *process) {
			p.dir.Kill()
			f.presence("p", "2")
		}, "p@1", time.Second},
		{"drain", func(_ *fixture, p *process) { p.drain() }, "p@1", 3 * time.Second},
		{"withdrawal", func(_ *fixture, p *process) { p.end() }, "p@1", time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, placement.Config{})
				f.control("a@1", f.start("a", "1", false).dir)
				p := f.presence("p", "1")
				f.presence("q", "1")
				f.presence("r", "1")
				f.whole(time.Second)
				time.Sleep(2 * time.Minute) // out of quarantine, and balanced
				before := f.view().Presence
				tt.do(f, p)
				took := f.whole(tt.max, tt.gone)
				t.Logf("whole after %v", took)
				now := f.view().Presence
				for n := range shard.PresenceShard(shard.PresenceShards) {
					was, is := before.Holders(n), now.Holders(n)
					if (was.First != is.First) != (is.Epoch > was.Epoch) || !was.Has(is.First) {
						t.Fatalf("presence shard %d went from %+v to %+v", n, was, is)
					}
				}
			})
		})
	}
}

// TestPresenceIsNotGoneInQuarantine has the store return after a long outage in
// which a process crashed.
func TestPresenceIsNotGoneInQuarantine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, placement.Config{})
		f.control("a@1", f.start("a", "1", false).dir)
		p := f.presence("p", "1")
		f.presence("q", "1")
		f.presence("r", "1")
		time.Sleep(2 * time.Minute)
		f.store.Disconnect(true)
		p.dir.Kill()
		time.Sleep(time.Minute)
		f.store.Disconnect(false)
		if took := f.whole(time.Minute, "p@1"); took < 3*lease || took > 3*lease+2*time.Second {
			t.Errorf("holders were replaced after %v, want after %v", took, 3*lease)
		}
	})
}

// TestHoldersAreWrittenByTheNextLeader lets leader and process go at the same
// time.
func TestHoldersAreWrittenByTheNextLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, placement.Config{})
		a, b := f.start("a", "1", false), f.start("b", "1", false)
		f.control("a@1", a.dir)
		f.control("b@1", b.dir)
		p := f.presence("p", "1")
		f.presence("q", "1")
		f.presence("r", "1")
		time.Sleep(2 * time.Minute)
		a.dir.Kill()
		p.dir.Kill()
		f.whole(lease+2*time.Second, "p@1")
	})
}
