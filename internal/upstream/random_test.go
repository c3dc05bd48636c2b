package upstream_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/internal/upstream"
)

// TestAnythingMayHappen publishes and follows while brokers die, slots move,
// streams break, fall silent and lag, and interests come and go. Then it holds
// what was seen against what happened.
func TestAnythingMayHappen(t *testing.T) {
	seeds := 24
	if testing.Short() {
		seeds = 5
	}
	if n, err := strconv.Atoi(os.Getenv("COMET_SEEDS")); err == nil {
		seeds = n
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newChaos(t, seed).run() })
		})
	}
}

// chaos is one random life of a cluster.
type chaos struct {
	t          *testing.T
	rnd        *rand.Rand
	c          *cluster
	channels   []string
	interests  []string
	publishers []*publishing
	f          *following

	published []map[string]int // by publisher: how many, by channel
	wanted    map[string]bool
	wishes    map[string][]int64 // when Join and Leave were called, in turn
}

func newChaos(t *testing.T, seed uint64) *chaos {
	t.Helper()
	x := &chaos{
		t: t, rnd: rand.New(rand.NewPCG(seed, 29)), c: newCluster(t, 3),
		channels:  []string{"/a/1", "/a/2", "/a/3", "/b/1", "/b/2", "/c"},
		interests: []string{"/a/1", "/a/2", "/b/1", "/b/2", "/c", "/a/*", "/b/**", "/**"},
		wanted:    map[string]bool{}, wishes: map[string][]int64{},
	}
	if seed%2 == 1 {
		x.c.retain = 5
	}
	for range 2 {
		x.publishers = append(x.publishers, startPublisher(t, x.c, upstream.PublisherConfig{}))
		x.published = append(x.published, map[string]int{})
	}
	if x.c.copies = seed%4 >= 2; x.c.copies {
		for _, channel := range x.channels {
			x.c.move(shard.Of(channel), x.broker(), 0, 0)
		}
	}
	x.f = startFollower(t, x.c, upstream.FollowerConfig{Credit: 500 + x.rnd.IntN(5000), Copies: x.c.copies})
	return x
}

func (x *chaos) run() {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		x.step()
		time.Sleep(time.Duration(x.rnd.IntN(300)) * time.Millisecond)
	}
	x.heal()
	time.Sleep(20 * time.Second)
	x.f.stop()
	for _, p := range x.publishers {
		p.stop(nil)
	}
	x.checkPublishers()
	x.checkFollower()
	if x.c.copies && x.c.copied == 0 {
		x.t.Error("copies pushed nothing")
	}
}

func (x *chaos) step() {
	switch n := x.rnd.IntN(100); {
	case n < 50:
		x.publish()
	case n < 70:
		x.changeInterests()
	case n < 78:
		x.move()
	case n < 82:
		x.broker().cut()
	case n < 86:
		b, mute := x.broker(), x.rnd.IntN(2) == 0
		b.set(func() { b.mute = mute })
	case n < 92:
		b, delay := x.broker(), time.Duration(x.rnd.IntN(50))*time.Millisecond
		b.set(func() { b.delay = delay })
	case n < 96:
		x.f.mu.Lock()
		x.f.slow = time.Duration(x.rnd.IntN(20)) * time.Millisecond
		x.f.mu.Unlock()
	case n < 98:
		x.c.store.Disconnect(true)
		time.Sleep(time.Duration(x.rnd.IntN(1500)) * time.Millisecond)
		x.c.store.Disconnect(false)
	default:
		x.replace()
	}
}

func (x *chaos) broker() *fakeBroker {
	all := x.c.brokers()
	return all[x.rnd.IntN(len(all))]
}

func (x *chaos) publish() {
	who := x.rnd.IntN(len(x.publishers))
	for range 1 + x.rnd.IntN(10) {
		channel := x.channels[x.rnd.IntN(len(x.channels))]
		n := x.published[who][channel]
		x.published[who][channel]++
		x.publishers[who].publish(channel, name(who, channel, n))
	}
}

func name(who int, channel string, n int) string { return fmt.Sprintf("%d %s %06d", who, channel, n) }

func (x *chaos) changeInterests() {
	for range 1 + x.rnd.IntN(3) {
		i := x.interests[x.rnd.IntN(len(x.interests))]
		x.wishes[i] = append(x.wishes[i], x.c.now().seq)
		if x.wanted[i] = !x.wanted[i]; x.wanted[i] {
			x.f.Join(i)
		} else {
			x.f.Leave(i)
		}
	}
}

func (x *chaos) move() {
	slot := shard.Of(x.channels[x.rnd.IntN(len(x.channels))])
	pause := func() time.Duration { return time.Duration(x.rnd.IntN(200)) * time.Millisecond }
	if x.c.copies {
		switch x.rnd.IntN(3) {
		case 0:
			x.c.pause(slot, pause())
			return
		case 1:
			b, stale := x.broker(), x.rnd.IntN(2) == 0
			b.set(func() { b.stale = stale })
			return
		}
	}
	x.c.move(slot, x.broker(), pause(), pause())
}

// replace kills a broker, and gives what it owned to others, one of them new.
func (x *chaos) replace() {
	dead := x.broker()
	dead.kill()
	x.c.start()
	for s := range shard.Slot(shard.Slots) {
		if x.c.slots[s].row.Primary == dead.node.Member() {
			x.c.move(s, x.broker(), 0, 0)
		}
	}
}

func (x *chaos) heal() {
	for _, b := range x.c.brokers() {
		b.set(func() { b.mute, b.stale, b.delay = false, false, 0 })
	}
	x.f.mu.Lock()
	x.f.slow = 0
	x.f.mu.Unlock()
}

// checkPublishers: every publish is answered once; what is accepted is in the
// log of its time, where it was said to be; a log holds nothing twice, and what
// was accepted in the order of each publisher and channel.
func (x *chaos) checkPublishers() {
	at := map[shard.Position]*brokerv1.Entry{}
	for s := range x.c.slots {
		for _, log := range x.c.slots[s].logs {
			seen := map[string]bool{}
			for _, e := range log.entries {
				at[shard.Position{Slot: shard.Slot(s), Offset: e.GetOffset()}] = e
				if seen[string(e.GetData())] {
					x.t.Errorf("%s is twice in one log", e.GetData())
				}
				seen[string(e.GetData())] = true
			}
		}
	}
	accepted, total := 0, 0
	for who, counts := range x.published {
		for channel, n := range counts {
			last := uint64(0)
			for i := range n {
				r, ok := x.publishers[who].answer(name(who, channel, i))
				total++
				switch {
				case !ok:
					x.t.Errorf("%s was not answered", name(who, channel, i))
				case r.err == nil:
					accepted++
					e := at[shard.Position{Slot: shard.Of(channel), Offset: r.ack.Position}]
					if string(e.GetData()) != name(who, channel, i) {
						x.t.Errorf("%s is not at %d, %v is", name(who, channel, i), r.ack.Position, e)
					}
					if r.ack.Position <= last {
						x.t.Errorf("%s at %d comes before an earlier one at %d", name(who, channel, i), r.ack.Position, last)
					}
					last = r.ack.Position
				}
			}
		}
	}
	if accepted*10 < total*9 {
		x.t.Errorf("only %d of %d publishes were accepted", accepted, total)
	}
}

// checkFollower: per slot in order and once; nothing below what was complete;
// all that was promised by a Joined came after it, or a resync after the loss.
func (x *chaos) checkFollower() {
	came := map[*brokerv1.Entry]int64{}
	last := map[shard.Slot]uint64{}
	bases := map[shard.Position]bool{}
	for _, h := range x.f.got {
		switch {
		case h.entry != nil:
			if h.entry.GetOffset() <= last[h.slot] {
				x.t.Errorf("slot %d: %d after %d", h.slot, h.entry.GetOffset(), last[h.slot])
			}
			last[h.slot] = h.entry.GetOffset()
			came[x.original(h)] = h.seq
		case h.resync != nil && x.c.retain == 0:
			at := shard.Position{Slot: h.slot, Offset: h.position}
			if bases[at] || !x.isBase(at) {
				x.t.Errorf("resync at %v of %v: nothing was lost", at, h.resync)
			}
			bases[at] = true
		case h.joined == "":
			last[h.slot] = max(last[h.slot], h.position)
		}
	}
	promises := 0
	for _, h := range x.f.got {
		if h.joined != "" {
			promises += x.checkJoined(h, came)
		}
	}
	if promises < 100 {
		x.t.Errorf("only %d deliveries were promised", promises)
	}
}

func (x *chaos) original(h happening) *brokerv1.Entry {
	for _, log := range x.c.slots[h.slot].logs {
		if i := int64(h.entry.GetOffset()) - int64(log.base) - 1; i >= 0 && i < int64(len(log.entries)) {
			if e := log.entries[i]; string(e.GetData()) == string(h.entry.GetData()) {
				return e
			}
		}
	}
	x.t.Errorf("%v was never committed", h.entry)
	return nil
}

func (x *chaos) isBase(at shard.Position) bool {
	return slices.ContainsFunc(x.c.slots[at.Slot].logs, func(l *fakeLog) bool { return l.base == at.Offset })
}

// checkJoined checks what one Joined promised, and returns how much that was.
func (x *chaos) checkJoined(h happening, came map[*brokerv1.Entry]int64) int {
	from := map[shard.Slot]uint64{}
	for _, p := range h.from {
		from[p.Slot] = p.Offset
	}
	if want := 1 + 255*strings.Count(h.joined+" ", "* "); len(from) != want {
		x.t.Errorf("%s was joined in %d slots, want %d", h.joined, len(from), want)
	}
	until := int64(1 << 62)
	if i := slices.IndexFunc(x.wishes[h.joined], func(seq int64) bool { return seq > h.seq }); i >= 0 {
		if i%2 == 0 {
			return 0 // it was given up before the answer came
		}
		until = x.wishes[h.joined][i]
	} else if !x.wanted[h.joined] {
		return 0
	}
	promises := 0
	for s, begin := range from {
		for _, log := range x.c.slots[s].logs {
			for _, e := range log.entries {
				if e.GetOffset() <= begin || !matches(h.joined, e.GetChannel()) {
					continue
				}
				promises++
				born := x.c.birth[e]
				switch seq, ok := came[e]; {
				case ok && seq < h.seq && seq > 0:
					x.t.Errorf("%s: %v came before Joined from %d", h.joined, e, begin)
				case !ok && x.passed(h, e, until) && !x.resynced(h, e, born, until):
					x.t.Errorf("%s, joined from %d in slot %d: %v is missing", h.joined, begin, s, e)
				}
			}
		}
	}
	return promises
}

// passed reports whether the follower was beyond an entry before an interest
// was given up, or had all the time to be.
func (x *chaos) passed(joined happening, e *brokerv1.Entry, until int64) bool {
	return until == 1<<62 || slices.ContainsFunc(x.f.got, func(h happening) bool {
		at := max(h.position, h.entry.GetOffset())
		return h.slot == shard.Of(e.GetChannel()) && at >= e.GetOffset() && h.seq > joined.seq && h.seq < until
	})
}

// resynced reports whether the follower said that it lost an entry, and did not
// say that this is over before it was beyond the entry.
func (x *chaos) resynced(joined happening, e *brokerv1.Entry, born moment, until int64) bool {
	return slices.ContainsFunc(x.f.got, func(h happening) bool {
		return h.resync != nil && h.slot == shard.Of(e.GetChannel()) && slices.Contains(h.resync, joined.joined) &&
			h.seq > max(born.seq, joined.seq) && h.seq < until && (h.over == 0 || h.over >= e.GetOffset())
	})
}
