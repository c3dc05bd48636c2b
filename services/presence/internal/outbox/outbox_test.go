package outbox

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comet-push/comet/internal/home"
	"github.com/comet-push/comet/internal/shard"
)

func everything() (all []shard.PresenceShard) {
	for s := range shard.PresenceShard(shard.PresenceShards) {
		all = append(all, s)
	}
	return all
}

var begin = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func at(seconds int) time.Time { return begin.Add(time.Duration(seconds) * time.Second) }

// bench is a Box, and one session in its channel.
type bench struct {
	*testing.T
	*Box
	c Channel
}

const someone = "someone"

func newBench(t *testing.T, cfg Config) *bench {
	t.Helper()
	if cfg.Keep == 0 {
		cfg = Config{Keep: time.Hour, Most: 100, Flying: 10}
	}
	return &bench{t, New(cfg), ChannelOf(shard.OfSession(someone))}
}

// lead makes the box's process the first holder of everything, with proof.
func (b *bench) lead() {
	b.SetFirst(everything())
	for c := range Channel(Channels) {
		round, _ := b.Unproven(c)
		b.Proven(c, round)
	}
}

func (b *bench) want(ids ...string) (events []*Event) {
	b.Helper()
	events = b.Take(b.c)
	got := []string{}
	for _, e := range events {
		got = append(got, e.ID)
	}
	if diff := cmp.Diff(append([]string{}, ids...), got); diff != "" {
		b.Errorf("given out (-want +got):\n%s", diff)
	}
	return events
}

func end(count uint64, seconds int) *Event {
	return NewDisconnected(someone, "ann", "edge-1", home.Generation{Epoch: 1, Count: count}, "lost", []string{"/a"}, at(seconds))
}

func left(count uint64, channel string, seconds int) *Event {
	return NewLeft(someone, "ann", "edge-1", home.Generation{Epoch: 1, Count: count}, channel, at(seconds))
}

func TestEventsOfASessionKeepTheirOrder(t *testing.T) {
	b := newBench(t, Config{})
	b.lead()
	leave, over, again := left(1, "/a", 5), end(1, 6), end(2, 7)
	for _, e := range []*Event{leave, over, again} {
		b.Put(e, at(0), e.Time)
	}
	b.want(leave.ID)
	b.want()
	b.Failed(leave)
	b.want(leave.ID)
	b.Done(leave)
	b.want(over.ID)
	b.Done(over)
	b.want(again.ID)
	b.Done(again)
	if b.want(); b.Len() != 0 {
		t.Errorf("%d events are left", b.Len())
	}
}

// TestWhoBecomesFirst publishes what it cannot find, and nothing before it looked.
func TestWhoBecomesFirst(t *testing.T) {
	b := newBench(t, Config{})
	published, missing := left(1, "/a", 5), end(1, 6)
	b.Put(published, at(0), at(5))
	b.Put(missing, time.Time{}, at(6))
	b.want() // the other one's
	b.SetFirst(everything())
	round, waits := b.Unproven(b.c)
	if b.want(); !waits {
		t.Error("nothing is to be read")
	}
	b.Proven(b.c, round-1) // of an earlier time
	b.want()
	b.Seen(published, at(7))
	b.Proven(b.c, round)
	b.want(missing.ID)
	b.Done(missing)
	b.SetFirst(nil)
	b.Put(end(2, 8), time.Time{}, at(8))
	b.want()
}

func TestProof(t *testing.T) {
	for _, tt := range []struct {
		name   string
		mine   *Event
		joined int
		seen   *Event
		proven bool
	}{
		{"the same end", end(2, 5), 0, end(2, 6), true},
		{"a later generation's", end(2, 5), 0, end(3, 6), true},
		{"an earlier one's", end(2, 5), 0, end(1, 6), false},
		{"a leave is no end", end(2, 5), 0, left(2, "/a", 5), false},
		{"the other holder's leave", left(2, "/a", 5), 1, left(2, "/a", 4), true},
		{"of another channel", left(2, "/a", 5), 1, left(2, "/b", 5), false},
		{"of an earlier membership", left(2, "/a", 5), 3, left(2, "/a", 2), false},
		{"the end after a leave", left(2, "/a", 5), 1, end(2, 5), true},
		{"an end before it", left(2, "/a", 5), 1, end(1, 5), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, first := range []bool{false, true} {
				b := newBench(t, Config{})
				if first { // the other holder was quicker
					b.Seen(tt.seen, at(9))
				}
				b.Put(tt.mine, at(tt.joined), at(9))
				if !first {
					b.Seen(tt.seen, at(9))
				}
				if got := b.Len() == 0; got != tt.proven {
					t.Errorf("proven: %v, want %v", got, tt.proven)
				}
			}
		})
	}
}

// TestSeenWhileUnderWay: the answer to a publish is lost, but its entry is read.
func TestSeenWhileUnderWay(t *testing.T) {
	b := newBench(t, Config{})
	b.lead()
	e := end(1, 1)
	b.Put(e, time.Time{}, at(1))
	b.want(e.ID)
	b.Seen(e, at(2))
	b.Failed(e)
	if b.want(); b.Len() != 0 {
		t.Error("it is published again")
	}
}

func TestWithdraw(t *testing.T) {
	b := newBench(t, Config{})
	b.Put(left(1, "/a", 1), at(0), at(1))
	b.Put(end(1, 2), time.Time{}, at(2))
	b.Withdraw(someone, home.Generation{Epoch: 1, Count: 1})
	if b.Len() != 2 {
		t.Error("its own generation takes an end back")
	}
	b.Withdraw(someone, home.Generation{Epoch: 1, Count: 2})
	if b.lead(); b.Len() != 1 {
		t.Errorf("%d events are left", b.Len())
	}
	b.want(left(1, "/a", 1).ID)
}

func TestBounds(t *testing.T) {
	b := newBench(t, Config{Keep: time.Minute, Most: 3, Flying: 1})
	lost := 0
	put := func(i int) {
		lost += b.Put(NewDisconnected(fmt.Sprint("s", i), "", "", home.Generation{Count: 1}, "lost", nil, at(i)), time.Time{}, at(i))
	}
	for i := range 5 {
		put(i)
	}
	if b.Len() != 3 || lost != 0 {
		t.Errorf("%d kept, %d lost that others publish", b.Len(), lost)
	}
	b.lead()
	put(5)
	if lost != 1 {
		t.Errorf("%d lost, want 1", lost)
	}
	if lost := b.Tick(at(63)); b.Len() != 2 || lost != 1 {
		t.Errorf("after a minute %d kept, %d lost", b.Len(), lost)
	}
	if lost := b.Tick(at(70)); b.Len() != 0 || lost != 2 {
		t.Errorf("at last %d kept, %d lost", b.Len(), lost)
	}
}

// TestOneOldEventPinsNothing keeps the list of events short behind one that
// nobody publishes.
func TestOneOldEventPinsNothing(t *testing.T) {
	b := newBench(t, Config{Keep: time.Hour, Most: 100, Flying: 1000})
	b.lead()
	b.SetFirst(slices.DeleteFunc(everything(), func(s shard.PresenceShard) bool { return s == shard.OfSession(someone) }))
	b.Put(end(1, 0), time.Time{}, at(0))
	for i := range 20_000 {
		e := NewDisconnected(fmt.Sprint("s", i), "", "", home.Generation{Count: 1}, "lost", nil, at(1))
		b.Put(e, time.Time{}, at(1))
		for _, x := range b.Take(ChannelOf(shard.OfSession(e.Session))) {
			b.Done(x)
		}
		b.Seen(e, at(1))
	}
	if len(b.order) > 2*slack || len(b.seen.of) > 100 || len(b.seen.order) > 100 {
		t.Errorf("%d events and %d marks are remembered", len(b.order), len(b.seen.of))
	}
	for c, heads := range b.heads {
		if b.fly[c] != 0 || len(heads) > 0 {
			t.Errorf("channel %d: %d flying, %d heads", c, b.fly[c], len(heads))
		}
	}
}

func TestEventText(t *testing.T) {
	var channels []string
	for i := range 150 {
		channels = append(channels, fmt.Sprint("/c/", i))
	}
	e := NewDisconnected("s", "", "edge-1", home.Generation{Epoch: 3, Count: 4}, "expired", channels, at(1))
	if !e.Ended.Truncated || len(e.Ended.Channels) != maxChannels {
		t.Errorf("%d channels", len(e.Ended.Channels))
	}
	for _, e := range []*Event{e, end(2, 3), left(2, "/a<b>", 4)} {
		got, err := Parse(e.Text())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(e, got); diff != "" {
			t.Errorf("read back (-want +got):\n%s", diff)
		}
	}
	for _, text := range []string{
		"", "{}", `{"id":"a","session":"s","generation":"1.1"}`, `{"id":"a","session":"s","generation":"1.1","left":{},"disconnected":{}}`,
		`{"id":"a","session":"s","generation":"1","left":{}}`, `{"id":"a","session":"s","generation":"-1.1","left":{}}`, `{"id":1}`,
	} {
		if e, err := Parse([]byte(text)); err == nil {
			t.Errorf("%s is read as %+v", text, e)
		}
	}
}

func FuzzPosition(f *testing.F) {
	f.Add(Position{1, 2, shard.MaxPosition - 1}.String())
	f.Add("")
	f.Add("AQ")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePosition(text)
		if err == nil && p.String() != text {
			t.Errorf("%q is read as %v, which is %q", text, p, p.String())
		}
	})
}

func TestPositions(t *testing.T) {
	var p Position
	for c := range p {
		p[c] = uint64(c) << 45
	}
	got, err := ParsePosition(p.String())
	if err != nil || got != p || len(p.String()) > 160 {
		t.Errorf("%v, %v; %d characters", got, err, len(p.String()))
	}
	p[3] = shard.MaxPosition
	for _, text := range []string{"", "earliest", p.String(), p.String() + "A", "B" + p.String()[1:]} {
		if got, err := ParsePosition(text); err == nil {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}
