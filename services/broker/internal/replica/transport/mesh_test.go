package transport_test

import (
	"bytes"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
	"github.com/comet-push/comet/services/broker/internal/replica"
	"github.com/comet-push/comet/services/broker/internal/replica/transport"
)

// pair is two connected members of which a dials z.
func pair(t *testing.T, n network, change ...func(*transport.Config)) (a, z *member, ja, jz *journal) {
	t.Helper()
	ja, jz = newJournal(t), newJournal(t)
	a, z = start(t, n, node("a", 1), ja, change...), start(t, n, node("z", 1), jz, change...)
	connect(a, z)
	time.Sleep(100 * time.Millisecond) // they start at the same time
	return a, z, ja, jz
}

// connect tells members of each other.
func connect(all ...*member) {
	var nodes []membership.Node
	for _, m := range all {
		nodes = append(nodes, m.node)
	}
	for _, m := range all {
		m.Peers(nodes)
	}
}

func TestOneStreamForEachPair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemory()
		ja, jz := newJournal(t), newJournal(t)
		a, z := start(t, n, node("a", 1), ja), start(t, n, node("z", 1), jz)
		z.Peers([]membership.Node{a.node, z.node})
		time.Sleep(10 * time.Second)
		jz.want() // it is not to call
		a.Peers([]membership.Node{a.node, z.node})
		ja.want("up z@1")
		jz.want("up a@1")
		time.Sleep(10 * time.Minute)
		ja.want("up z@1")
		jz.want("up a@1")
		if got := ja.beats(); got < 595 || got > 610 {
			t.Errorf("heard %d times in 10 minutes", got)
		}
		z.stop()
		ja.want("up z@1", "down z@1")
		jz.want("up a@1", "down a@1")
		z.ended(t, transport.Stopped, 1)
		a.ended(t, transport.Broken, 1)
		z.Send("a@1", 1, &replica.Leave{}) // goes nowhere
	})
}

func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, z, ja, jz := pair(t, newMemory())
		ja.want("up z@1")
		jz.want("up a@1")
		exchange(t, a, z, ja, jz, 4_000)
		synctest.Wait()
		if ja.total() != 4_000 || jz.total() != 4_000 {
			t.Errorf("received %d and %d", ja.total(), jz.total())
		}
	})
}

func TestOrderOverTCP(t *testing.T) {
	ja, jz := newJournal(t), newJournal(t)
	connected := make(chan struct{})
	all := make(chan struct{}, 2)
	const each = 4_000
	a := start(t, loopback{}, node("a", 1), upHandler{ja, connected})
	z := start(t, loopback{}, node("z", 1), jz)
	for _, j := range []*journal{ja, jz} {
		count := 0
		j.then(func(string, shard.Slot, replica.Message) {
			if count++; count == each {
				all <- struct{}{}
			}
		})
	}
	connect(a, z)
	<-connected
	exchange(t, a, z, ja, jz, each)
	<-all
	<-all
}

// upHandler tells of the first Up.
type upHandler struct {
	*journal
	up chan struct{}
}

func (h upHandler) Up(member string) {
	h.journal.Up(member)
	close(h.up)
}

// exchange lets both members send, some senders at a time.
func exchange(t *testing.T, a, z *member, ja, jz *journal, messages int) {
	t.Helper()
	const senders = 8
	var tasks sync.WaitGroup
	for sender := range senders {
		tasks.Go(func() {
			for i := range messages / senders {
				slot := shard.Slot(sender + senders*(i%3))
				jz.tell(a.Mesh, z.node.Member(), slot)
				ja.tell(z.Mesh, a.node.Member(), slot)
			}
		})
	}
	tasks.Wait()
}

func TestLargeMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _, ja, jz := pair(t, newMemory())
		ja.want("up z@1")
		large := &history.Entry{Channel: "/large", Offset: 8, Term: 1, Data: bytes.Repeat([]byte("x"), 1<<20)}
		for range 3 {
			a.Send("z@1", 5, &replica.Append{Term: 1, Round: 1, Prev: 7, Entries: []*history.Entry{large}})
		}
		jz.want("up a@1", "*replica.Append a@1", "*replica.Append a@1", "*replica.Append a@1")
		for range 2 {
			a.Send("z@1", 5, &replica.Piece{Term: 1, Round: 1, Data: large.Data})
		}
		time.Sleep(20 * time.Millisecond)
		jz.want("up a@1", "*replica.Append a@1", "*replica.Append a@1", "*replica.Append a@1",
			"*replica.Piece a@1", "*replica.Piece a@1")
	})
}

func TestReconnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemory()
		a, z, ja, jz := pair(t, n)
		jz.gaps = true
		ja.want("up z@1")
		for range 5 {
			jz.tell(a.Mesh, "z@1", 7)
			n.cut(z.node.Addr)
			jz.tell(a.Mesh, "z@1", 7)
			time.Sleep(1300 * time.Millisecond)
			jz.tell(a.Mesh, "z@1", 7)
			synctest.Wait()
		}
		if got := ja.story(); len(got) != 11 || got[10] != "up z@1" {
			t.Errorf("heard %q", got)
		}
		if got := jz.heard["a@1/7"]; got != 15 {
			t.Errorf("the last message was not received: %v", jz.heard)
		}
		a.ended(t, transport.Broken, 5)
	})
}

func TestBothRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemory()
		a, z, ja, jz := pair(t, n)
		ja.want("up z@1")
		n.crash(z.node.Addr)
		z.stop()
		z = start(t, n, node("z", 2), jz)
		time.Sleep(2 * time.Second)
		ja.want("up z@1", "down z@1") // nobody told a of z@2
		a.ended(t, transport.Stranger, 0)
		connect(a, z)
		time.Sleep(2 * time.Second)
		ja.want("up z@1", "down z@1", "up z@2")

		n.crash(a.node.Addr)
		a.stop()
		a = start(t, n, node("a", 2), ja)
		connect(a, z)
		time.Sleep(2 * time.Second)
		ja.want("up z@1", "down z@1", "up z@2", "down z@2", "up z@2")
		jz.want("up a@1", "down a@1", "up a@1", "down a@1", "up a@2")

		n.crash(a.node.Addr)
		n.crash(z.node.Addr)
		a.stop()
		z.stop()
		a, z = start(t, n, node("a", 3), ja), start(t, n, node("z", 3), jz)
		connect(a, z)
		jz.tell(a.Mesh, "z@3", 1)
		time.Sleep(time.Second)
		ja.want("up z@1", "down z@1", "up z@2", "down z@2", "up z@2", "down z@2", "up z@3")
	})
}

func TestPeersThatAreNotNamedAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemory()
		a, z, ja, jz := pair(t, n)
		ja.want("up z@1")
		a.Peers([]membership.Node{a.node})
		time.Sleep(time.Minute)
		jz.tell(a.Mesh, "z@1", 7)
		ja.want("up z@1")
		jz.want("up a@1", "told a@1 1")
		connect(a, z)
		n.cut(z.node.Addr)
		time.Sleep(time.Minute)
		ja.want("up z@1", "down z@1", "up z@1")
		a.Peers(nil)
		n.cut(z.node.Addr)
		time.Sleep(time.Minute)
		ja.want("up z@1", "down z@1", "up z@1", "down z@1")

		a.Peers([]membership.Node{node("y", 1)}) // nobody is there
		time.Sleep(time.Minute)
		a.Peers([]membership.Node{node("y", 1), z.node})
		time.Sleep(time.Second)
		a.Peers([]membership.Node{node("z", 1)})
		ja.want("up z@1", "down z@1", "up z@1", "down z@1", "up z@1")
	})
}

func TestMemberThatMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemory()
		ja, jz := newJournal(t), newJournal(t)
		a := start(t, n, node("a", 1), ja)
		before := node("z", 1)
		before.Addr = "nowhere:7070"
		a.Peers([]membership.Node{before})
		time.Sleep(time.Minute)
		z := start(t, n, node("z", 1), jz)
		a.Peers([]membership.Node{z.node})
		time.Sleep(time.Second)
		ja.want("up z@1")
	})
}

func TestNothingBeforeRunOrAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemory()
		ja, jz := newJournal(t), newJournal(t)
		z := start(t, n, node("z", 1), jz)
		z.stop()
		a := start(t, n, node("a", 1), ja)
		// A door that is open though its mesh does not run.
		door := start(t, n, node("z", 2), newJournal(t))
		door.stop()
		a.Peers([]membership.Node{door.node})
		time.Sleep(time.Minute)
		ja.want()
		door.Peers([]membership.Node{node("zz", 1)})
	})
}

func TestOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _, ja, jz := pair(t, newMemory(), func(c *transport.Config) { c.QueueBytes = 1 << 20 })
		ja.want("up z@1")
		stuck := make(chan struct{})
		jz.then(func(string, shard.Slot, replica.Message) { <-stuck })
		piece := &replica.Piece{Term: 1, Round: 1, Data: make([]byte, 100<<10)}
		for range 100 {
			a.Send("z@1", 9, piece)
			synctest.Wait()
		}
		ja.want("up z@1", "down z@1")
		a.ended(t, transport.Overflow, 1)
		time.Sleep(time.Second) // the new stream waits for the old one to end
		jz.want("up a@1", "*replica.Piece a@1")
		close(stuck)
		time.Sleep(10 * time.Second)
		ja.want("up z@1", "down z@1", "up z@1")
		jz.want("up a@1", "*replica.Piece a@1", "down a@1", "up a@1")
		a.Send("z@1", 9, piece)
		jz.want("up a@1", "*replica.Piece a@1", "down a@1", "up a@1", "*replica.Piece a@1")
	})
}

func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemory()
		a, z, ja, jz := pair(t, n)
		time.Sleep(time.Minute)
		ja.want("up z@1")
		n.swallow(z.node.Addr)
		time.Sleep(2800 * time.Millisecond)
		ja.want("up z@1")
		jz.want("up a@1")
		time.Sleep(1200 * time.Millisecond)
		ja.want("up z@1", "down z@1")
		jz.want("up a@1", "down a@1")
		a.ended(t, transport.Silent, 1)
		z.ended(t, transport.Silent, 1)
		time.Sleep(30 * time.Second) // the connection's own keepalive
		ja.want("up z@1", "down z@1", "up z@1")
		jz.want("up a@1", "down a@1", "up a@1")
	})
}

// A peer that reads slowly but works is not silent.
func TestSlowIsNotSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, z, ja, jz := pair(t, newMemory())
		ja.want("up z@1")
		jz.then(func(member string, slot shard.Slot, _ replica.Message) {
			time.Sleep(2 * time.Second)
			z.Send(member, slot, &replica.Ack{})
		})
		for range 100 {
			jz.tell(a.Mesh, "z@1", 3)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if jz.total() != 100 || len(ja.story()) != 101 {
			t.Errorf("received %d, answered %q", jz.total(), ja.story())
		}
	})
}

// Nothing of a stream is heard after Down, even if much of it has come.
func TestNothingAfterDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemory()
		a, z, ja, jz := pair(t, n)
		ja.want("up z@1")
		jz.gaps = true
		jz.then(func(string, shard.Slot, replica.Message) { time.Sleep(10 * time.Millisecond) })
		for range 50 {
			for range 100 {
				jz.tell(a.Mesh, "z@1", 3)
			}
			time.Sleep(500 * time.Millisecond)
			n.cut(z.node.Addr)
			time.Sleep(2 * time.Second)
		}
		synctest.Wait()
		if jz.heard["a@1/3"] == 0 || len(ja.story()) != 101 {
			t.Errorf("received up to %d of 5000, streams: %q", jz.heard["a@1/3"], ja.story())
		}
	})
}
