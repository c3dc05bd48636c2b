package hub

import (
	"maps"
	"reflect"
	"slices"

	"pgregory.net/rapid"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
)

// The model is a follower's client: it knows what was committed, what it was
// told, and so what it may not miss.

// wish is an interest as the client holds it.
type wish struct {
	id      uint64
	channel string
	from    map[shard.Slot]uint64 // owed: entries after it
	excused map[uint64]bool       // entries that a resync said were gone
}

// seat is a slot as the client has it open.
type seat struct {
	opened Start
	pushed bool
	fresh  bool
	at     uint64          // everything up to here came or was resynced
	gone   map[uint64]bool // not retained when it was opened with earliest
	reset  bool            // a resync of everything is due
}

type client struct {
	f      *Follower
	credit int64
	wishes map[string]*wish
	seats  map[shard.Slot]*seat
	next   uint64 // interest number
}

type world struct {
	*broker
	logs    map[shard.Slot][]*history.Entry // committed, of the present log
	clients []*client
}

func (w *world) retained(n shard.Slot) map[uint64]bool {
	kept := map[uint64]bool{}
	for e := range w.slots[n].log.History().After(0) {
		kept[e.Offset()] = true
	}
	return kept
}

func (w *world) publish(channels []string) {
	for _, channel := range channels {
		w.slots[shard.Of(channel)].append(channel)
	}
	for n, o := range w.slots {
		w.logs[n] = append(w.logs[n], o.commit()...)
	}
}

// listen handles everything a follower has to say.
func (w *world) listen(t *rapid.T, c *client) {
	for _, it := range c.f.Items() {
		switch fr := it.Frame.(type) {
		case nil:
			w.onEntry(t, c, it)
		case Opened:
			w.onOpened(t, c, fr)
		case Joined:
			w.onJoined(t, c, fr)
		case Lag:
			w.advance(t, c, fr.Slot, fr.Through)
			c.seats[fr.Slot].pushed = false
		case Resumed:
			w.advance(t, c, fr.Slot, fr.Through)
			s := c.seats[fr.Slot]
			s.pushed, s.fresh = true, false
			if s.reset {
				t.Fatalf("slot %d resumed after a reset without a resync", fr.Slot)
			}
		case Resync:
			w.onResync(t, c, fr)
		case Moved:
			delete(c.seats, fr.Slot)
			maps.DeleteFunc(c.wishes, func(name string, _ *wish) bool {
				return !bayeux.IsPattern(name) && shard.Of(name) == fr.Slot
			})
		case Marks:
			for _, m := range fr.Moved {
				if !c.seats[m.Slot].pushed {
					t.Fatalf("mark of slot %d, which is not pushed", m.Slot)
				}
				w.advance(t, c, m.Slot, m.Commit)
			}
		}
	}
}

func (w *world) onEntry(t *rapid.T, c *client, it Item) {
	s := c.seats[it.Slot]
	e := it.Entry
	if e.Offset <= s.at {
		t.Fatalf("entry %d comes again after %d", e.Offset, s.at)
	}
	if c.credit <= 0 {
		t.Fatalf("entry %d without credit", e.Offset)
	}
	c.credit -= int64(e.Cost())
	if !slices.ContainsFunc(w.logs[it.Slot], func(one *history.Entry) bool { return reflect.DeepEqual(one, e) }) {
		t.Fatalf("entry %d is not committed in slot %d", e.Offset, it.Slot)
	}
	wanted := false
	for name := range c.wishes {
		wanted = wanted || bayeux.Match(name, e.Channel)
	}
	if !wanted {
		t.Fatalf("entry of %s, which nobody asked for", e.Channel)
	}
	w.advance(t, c, it.Slot, e.Offset-1)
	s.at = e.Offset
}

// advance checks that nothing up to an offset is owed.
func (w *world) advance(t *rapid.T, c *client, n shard.Slot, through uint64) {
	s := c.seats[n]
	for _, e := range w.logs[n] {
		if e.Offset <= s.at || e.Offset > through || s.gone[e.Offset] || !w.class(e.Channel).Retains() && !s.pushed {
			continue
		}
		for name, wish := range c.wishes {
			if bayeux.Match(name, e.Channel) && e.Offset > wish.from[n] && !wish.excused[e.Offset] {
				t.Fatalf("slot %d passed %d, but entry %d of %s never came for %s", n, through, e.Offset, e.Channel, name)
			}
		}
	}
	s.at = max(s.at, through)
}

func (w *world) onOpened(t *rapid.T, c *client, fr Opened) {
	log := w.slots[fr.Slot].log
	s := c.seats[fr.Slot]
	start := s.opened
	*s = seat{opened: start, pushed: !start.Given, fresh: start.Given, at: log.Committed()}
	if start.Given {
		s.at = start.Since
		valid := log.Valid(start.Since)
		if !valid {
			s.at = log.Base()
		}
		s.reset = !valid && !start.Earliest
		if fr.Reset != s.reset {
			t.Fatalf("open since %d: %+v", start.Since, fr)
		}
	}
	if start.Earliest {
		s.gone = map[uint64]bool{}
		kept := w.retained(fr.Slot)
		for _, e := range w.logs[fr.Slot] {
			s.gone[e.Offset] = !kept[e.Offset]
		}
	}
	for _, wish := range c.wishes {
		wish.from[fr.Slot] = s.at
	}
}

func (w *world) onJoined(t *rapid.T, c *client, fr Joined) {
	for _, wish := range c.wishes {
		if wish.id != fr.ID {
			continue
		}
		for _, p := range fr.Positions {
			s := c.seats[p.Slot]
			if p.Offset != w.slots[p.Slot].log.Committed() {
				t.Fatalf("%+v: the end is %d", fr, w.slots[p.Slot].log.Committed())
			}
			wish.from[p.Slot] = p.Offset
			if s.fresh {
				wish.from[p.Slot] = s.at
			}
		}
		return
	}
}

func (w *world) onResync(t *rapid.T, c *client, fr Resync) {
	s := c.seats[fr.Slot]
	if fr.Through != s.at || s.pushed {
		t.Fatalf("%+v at %d", fr, s.at)
	}
	kept := w.retained(fr.Slot)
	for _, id := range fr.Interests {
		for name, wish := range c.wishes {
			if wish.id != id {
				continue
			}
			lost := s.reset
			for _, e := range w.logs[fr.Slot] {
				after := e.Offset > s.at && (bayeux.IsPattern(name) || e.Offset > wish.from[fr.Slot])
				lost = lost || after && !kept[e.Offset] && !s.gone[e.Offset] && bayeux.Match(name, e.Channel)
			}
			if !lost {
				t.Fatalf("%+v: %s has lost nothing", fr, name)
			}
			for _, e := range w.logs[fr.Slot] {
				wish.excused[e.Offset] = wish.excused[e.Offset] || !kept[e.Offset]
			}
		}
	}
	if s.reset && len(fr.Interests) != w.resyncable(c, fr.Slot) {
		t.Fatalf("%+v after a reset, of %d interests", fr, w.resyncable(c, fr.Slot))
	}
	s.reset = false
}

func (w *world) resyncable(c *client, n shard.Slot) (count int) {
	for name := range c.wishes {
		if bayeux.IsPattern(name) || shard.Of(name) == n {
			count++
		}
	}
	return count
}

func (c *client) grant(bytes uint64) {
	c.credit += int64(bytes)
	c.f.Grant(bytes)
}

// pull pulls and checks that it ends as it should.
func (w *world) pull(t *rapid.T, c *client, n shard.Slot) {
	s := c.seats[n]
	if s == nil {
		return
	}
	if s.reset && w.resyncable(c, n) == 0 {
		s.reset = false // nobody to tell
	}
	if err := c.f.Pull(n); err != nil {
		t.Fatal(err)
	}
	s.fresh = false
	w.listen(t, c)
	if !s.pushed && c.credit > 0 {
		t.Fatalf("slot %d lags with %d bytes of credit", n, c.credit)
	}
}

// settle pulls everything to the end with room enough.
func (w *world) settle(t *rapid.T) {
	for _, c := range w.clients {
		c.grant(1 << 20)
		for n := range c.seats {
			w.pull(t, c, n)
		}
		c.f.Marks()
		w.listen(t, c)
		for n, s := range c.seats {
			w.advance(t, c, n, w.slots[n].log.Committed())
			if !s.pushed {
				t.Fatalf("slot %d is not pushed in the end", n)
			}
		}
	}
}

func (w *world) checkInterests(t *rapid.T) {
	for _, c := range w.clients {
		known := 0
		for _, in := range c.f.byID {
			if in.place == nil || !in.place.slot.removed.Load() {
				known++
			}
		}
		if known != len(c.wishes) {
			t.Fatalf("%d interests, %d wishes", known, len(c.wishes))
		}
	}
}

// checkMemory looks at what waits for a client before it is taken.
func (w *world) checkMemory(t *rapid.T, c *client) {
	var queued, last int64
	frames := 0
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	for _, it := range c.f.items {
		if it.Entry == nil {
			frames++
			continue
		}
		last = int64(it.Entry.Cost())
		queued += last
	}
	if queued-last > max(c.credit, 0) {
		t.Fatalf("%d bytes wait with %d bytes of credit", queued, c.credit)
	}
	if frames > len(c.seats) {
		t.Fatalf("publishing made %d frames for %d slots", frames, len(c.seats))
	}
}
