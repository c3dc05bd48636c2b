package hub

import (
	"errors"
	"fmt"
	"testing"

	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
)

const n = shard.Slot(17)

// fixture is one slot with four channels /a/… of it, retaining three entries of
// each, and a follower.
func fixture(credit uint64) (b *broker, f *Follower, a []string) {
	b = newBroker(history.Class{Messages: 3})
	b.base = 0
	b.serve(n)
	return b, b.hub.Attach(credit), sharing(n, "a", 4)
}

func TestPush(t *testing.T) {
	b, f, a := fixture(1 << 20)
	b.publish(a[0])
	must(t, f.Open(n, Start{}))
	must(t, f.Join(1, a[0]))
	must(t, f.Join(2, "/a/*"))
	must(t, f.Join(3, "/**"))
	check(t, "answers", b.news(f), "opened 1, joined#1 [1], joined#2 [1], joined#3 [1]")
	b.publish(a[0], a[1])
	f.Leave(3)
	b.publish(a[0])
	f.Leave(2)
	b.publish(a[1], a[0])
	f.Leave(1)
	f.Leave(99)
	b.publish(a[0])
	check(t, "entries, once each", b.news(f), "2, 3, 4, 6")
	f.Marks()
	f.Marks()
	check(t, "marks", b.news(f), "marks [7], marks []")

	b.slots[n].stale = true
	b.publish(a[1])
	f.Marks()
	check(t, "nothing is proved", b.news(f), "marks [], stale [17]")
	b.slots[n].stale = false
	f.Marks()
	check(t, "proved again", b.news(f), "marks [8]")
}

func TestLagAndPull(t *testing.T) {
	b, f, a := fixture(1)
	must(t, f.Open(n, Start{}))
	must(t, f.Join(1, a[0]))
	b.news(f)
	b.publish(a[0], a[1], a[0], a[0])
	check(t, "overdrawn by one, then lag once", b.news(f), "1, lag 2")
	f.Marks()
	check(t, "no mark of a lagging slot", b.news(f), "marks []")
	must(t, f.Pull(n))
	check(t, "no credit", b.news(f), "lag 2")
	f.Grant(cost(a[0]))
	must(t, f.Pull(n))
	check(t, "credit for one", b.news(f), "3, lag 3")
	f.Grant(1 << 20)
	must(t, f.Pull(n))
	b.publish(a[0])
	check(t, "the rest", b.news(f), "4, resumed 4, 5")
	must(t, f.Pull(n))
	check(t, "pull of a pushed slot", b.news(f), "resumed 5")
}

func TestPullAfterLoss(t *testing.T) {
	b, f, a := fixture(1)
	must(t, f.Open(n, Start{}))
	for i, channel := range []string{a[0], a[1], "/a/*", "/none/*", a[2]} {
		must(t, f.Join(uint64(i), channel))
	}
	b.publish(a[2], a[1]) // 1 is sent, 2 lags
	b.news(f)
	b.publish(a[0], a[0], a[0], a[0], a[1]) // 3 is dropped
	must(t, f.Join(5, "/a/**"))             // joined after the loss, but patterns have no start
	must(t, f.Join(6, sharing(n, "late", 1)[0]))
	b.news(f)
	must(t, f.Pull(n))
	must(t, f.Pull(n))
	check(t, "resync of what lost, once", b.news(f), "resync [0 2 5] 1, lag 1, lag 1")
	b.publish(a[2], a[2], a[2], a[2]) // 8 is dropped
	f.Grant(1 << 20)
	must(t, f.Pull(n))
	check(t, "resync of what lost since", b.news(f), "resync [2 4 5] 1, 2, 4, 5, 6, 7, 9, 10, 11, resumed 11")
}

func TestLateLiteralStartsAtItsJoin(t *testing.T) {
	b, f, a := fixture(1)
	must(t, f.Open(n, Start{}))
	must(t, f.Join(1, a[0]))
	b.publish(a[0], a[0], a[1], a[1], a[1], a[1]) // 1 is sent; 3 is dropped
	must(t, f.Join(2, a[1]))
	f.Grant(1 << 20)
	b.publish(a[1])
	must(t, f.Pull(n))
	check(t, "news", b.news(f), "opened 0, joined#1 [0], 1, lag 1, joined#2 [6], 2, 7, resumed 7")
}

func TestOpenSince(t *testing.T) {
	tests := []struct {
		name  string
		start Start
		want  string
	}{
		{"all there", Start{Given: true, Since: 1004}, "opened 6, lag 4, joined#1 [6], joined#2 [6], 5, 6, resumed 6"},
		{"at the end", Start{Given: true, Since: 1006}, "opened 6, lag 6, joined#1 [6], joined#2 [6], resumed 6"},
		{"a part is gone", Start{Given: true, Since: 1001}, "opened 6, lag 1, joined#1 [6], joined#2 [6], resync [1] 1, 2, 4, 5, 6, resumed 6"},
		{"an older log", Start{Given: true, Since: 7}, "reset 6, lag 0, joined#1 [6], joined#2 [6], resync [1 2] 0, 2, 4, 5, 6, resumed 6"},
		{"a log of the future", Start{Given: true, Since: 1007}, "reset 6, lag 0, joined#1 [6], joined#2 [6], resync [1 2] 0, 2, 4, 5, 6, resumed 6"},
		{"earliest", Start{Given: true, Earliest: true}, "opened 6, lag 0, joined#1 [6], joined#2 [6], 2, 4, 5, 6, resumed 6"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, f, a := fixture(1 << 20)
			b.publish(a[0], a[1], a[0], a[0], a[0], a[0]) // 1 and 3 are dropped
			must(t, f.Open(n, tt.start))
			must(t, f.Join(1, a[0]))
			must(t, f.Join(2, a[1]))
			must(t, f.Pull(n))
			check(t, "news", b.news(f), tt.want)
		})
	}
}

func TestPatternsLoseOneByOne(t *testing.T) {
	b, f, a := fixture(1)
	other := sharing(n, "b", 1)[0]
	must(t, f.Open(n, Start{}))
	must(t, f.Join(1, "/a/*"))
	must(t, f.Join(2, "/b/*"))
	b.publish(a[0], a[0], a[0], a[0], a[0]) // 2 is dropped
	must(t, f.Pull(n))
	b.news(f)
	b.publish(other, other, other, other) // 6 is dropped
	must(t, f.Pull(n))
	check(t, "news", b.news(f), "resync [2] 2, lag 2")
}

// A resync of everything is said once.
func TestLagAfterReset(t *testing.T) {
	b, f, a := fixture(1)
	must(t, f.Open(n, Start{Given: true, Since: 7}))
	must(t, f.Join(1, a[0]))
	must(t, f.Join(2, "/b/*"))
	must(t, f.Pull(n))
	b.publish(a[0], a[0], a[0], a[0], a[0]) // 2 is dropped
	f.Grant(1 << 20)
	must(t, f.Pull(n))
	check(t, "news", b.news(f), "reset 0, lag 0, joined#1 [0], joined#2 [0], resync [1 2] 0, resumed 0, 1, lag 1, resync [1] 1, 3, 4, 5, resumed 5")
}

// What is lost after an earliest pull began is told.
func TestEarliestThenLoss(t *testing.T) {
	b, f, a := fixture(1)
	b.publish(a[0], a[0], a[0], a[0], a[1]) // 1 is dropped
	must(t, f.Open(n, Start{Given: true, Earliest: true}))
	must(t, f.Join(1, a[0]))
	must(t, f.Join(2, a[1]))
	must(t, f.Pull(n))
	b.publish(a[0], a[0]) // 3 is dropped
	f.Grant(1 << 20)
	must(t, f.Pull(n))
	check(t, "news", b.news(f), "opened 5, lag 0, joined#1 [5], joined#2 [5], 2, lag 2, resync [1] 2, 4, 5, 6, 7, resumed 7")
}

// CORRECTNESS rule 11: a follower of an old primary may be ahead of the commit.
func TestRule11AheadOfTheCommit(t *testing.T) {
	b, f, a := fixture(1 << 20)
	o := b.slots[n]
	b.publish(a[0])
	o.append(a[0]) // 2 and 3 are not committed
	o.append(a[0])
	must(t, f.Open(n, Start{Given: true, Since: 1002}))
	must(t, f.Join(1, a[0]))
	must(t, f.Pull(n))
	f.Marks()
	check(t, "waits, without a resync", b.news(f), "opened 1, lag 2, joined#1 [1], resumed 2, marks []")
	o.commit()
	check(t, "only what it has not", b.news(f), "3")
}

func TestMoved(t *testing.T) {
	b, f, a := fixture(1 << 20)
	must(t, f.Join(1, a[0]))
	check(t, "not open", b.news(f), "moved v9")
	must(t, f.Open(n, Start{}))
	must(t, f.Join(1, a[0]))
	must(t, f.Join(2, "/a/*"))
	b.news(f)
	b.remove(n)
	b.remove(n)
	must(t, f.Pull(n))
	must(t, f.Join(3, a[1])) // crossed the Moved
	check(t, "removed", b.news(f), "moved v9, moved v9")
	must(t, f.Open(n, Start{}))
	check(t, "open", b.news(f), "moved v9")

	b.serve(n) // it comes back, with a new log
	must(t, f.Open(n, Start{Given: true, Since: 1000}))
	must(t, f.Join(1, a[2])) // the number is free, its slot is gone
	must(t, f.Pull(n))
	b.publish(a[0], a[2])
	check(t, "anew", b.news(f), "reset 0, lag 0, joined#1 [0], resync [1 2] 0, resumed 0, 1, 2")
	f.Close()
	b.publish(a[0])
	check(t, "closed", b.news(f), "")
	check(t, "places left", len(b.slots[n].fan.places), 0)
	check(t, "patterns left", b.hub.patterns.Len(), 0)
}

// A position beyond the log may be of a log that another broker leads by now.
func TestBeyondTheLog(t *testing.T) {
	b, f, a := fixture(1 << 20)
	b.publish(a[0])
	must(t, f.Open(n, Start{}))
	must(t, f.Join(1, a[0]))
	b.slots[n].stale = true
	must(t, f.Open(n, Start{Given: true, Since: 1009}))
	must(t, f.Join(1, a[0]))
	b.publish(a[0])
	check(t, "not sure", b.news(f), "opened 1, joined#1 [1], moved v9, moved v9")
	must(t, f.Open(n, Start{Given: true, Since: 1001}))
	b.slots[n].stale = false
	must(t, f.Open(n, Start{Given: true, Since: 1009}))
	must(t, f.Join(1, a[0]))
	must(t, f.Pull(n))
	check(t, "sure", b.news(f), "opened 2, lag 1, reset 2, lag 0, joined#1 [2], resync [1] 0, 1, 2, resumed 2")
}

func TestOpenAgain(t *testing.T) {
	b, f, a := fixture(1 << 20)
	must(t, f.Open(n, Start{}))
	must(t, f.Join(1, a[0]))
	b.publish(a[0], a[0])
	must(t, f.Open(n, Start{Given: true, Since: 1001}))
	must(t, f.Pull(n))
	check(t, "starts over", b.news(f), "opened 0, joined#1 [0], 1, 2, opened 2, lag 1, 2, resumed 2")
}

func TestRefused(t *testing.T) {
	_, f, a := fixture(1)
	must(t, f.Open(n, Start{}))
	must(t, f.Join(1, a[0]))
	must(t, f.Join(7, a[0])) // renamed
	must(t, f.Join(1, a[1]))
	tests := []struct {
		name string
		got  error
		want error
	}{
		{"slot", f.Open(shard.Slots, Start{}), ErrSlotInvalid},
		{"pull", f.Pull(shard.Slots), ErrSlotInvalid},
		{"name", f.Join(2, "a"), ErrInterestInvalid},
		{"meta", f.Join(2, "/meta/connect"), ErrInterestInvalid},
		{"number", f.Join(7, a[2]), ErrInterestReused},
	}
	for _, tt := range tests {
		if !errors.Is(tt.got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, tt.got, tt.want)
		}
	}
}

func TestList(t *testing.T) {
	b, f, a := fixture(1 << 20)
	b.publish(a[0], a[0], a[1])
	must(t, f.Open(n, Start{}))
	g := b.hub.Attach(1)
	must(t, g.Open(n, Start{}))
	for i, channel := range []string{a[0], a[2], "/a/*"} {
		must(t, f.Join(uint64(i), channel))
		must(t, g.Join(uint64(i), channel))
	}
	g.Leave(1)
	got := fmt.Sprint(b.slots[n].fan.List("/a/*", "", 9))
	want := fmt.Sprintf("[{{%s 1002 2} 2} {{%s 1003 1} 0} {{%s 0 0} 1}]", a[0], a[1], a[2])
	check(t, "channels", got, want)
}

func TestReady(t *testing.T) {
	b, f, a := fixture(1 << 20)
	must(t, f.Open(n, Start{}))
	must(t, f.Join(1, a[0]))
	<-f.Ready()
	b.news(f)
	select {
	case <-f.Ready():
		t.Error("ready without items")
	default:
	}
	b.publish(a[0])
	<-f.Ready()
}

// A pull that goes over many steps loses nothing between them.
func TestLongPull(t *testing.T) {
	b := newBroker(history.Class{Messages: 10 * pullStep})
	b.serve(n)
	a := sharing(n, "a", 2)
	for range pullStep {
		b.publish(a[0])
	}
	b.publish(a[1]) // the first that is not looked at in the first step
	for range pullStep {
		b.publish(a[0])
	}
	f := b.hub.Attach(1 << 20)
	must(t, f.Open(n, Start{Given: true, Since: 1000}))
	must(t, f.Join(1, a[1]))
	b.news(f)
	check(t, "more after the first step", f.places[n].Load().pull(), true)
	check(t, "news of it", b.news(f), "")
	must(t, f.Pull(n))
	check(t, "news", b.news(f), fmt.Sprintf("%d, resumed %d", (pullStep+1)%1000, (2*pullStep+1)%1000))
}
