package holder

import (
	"fmt"
	"slices"
	"time"

	"github.com/comet-push/comet/internal/home"
	"github.com/comet-push/comet/internal/shard"
)

// holderNode is a presence process.
type holderNode struct {
	node
	real    *Holder
	watches []*simWatch

	since  map[shard.PresenceShard]time.Duration // when it became holder
	stay   map[shard.PresenceShard]uint64
	synced map[string]time.Duration // edge and shard → when all was begun that was then synced
	begun  map[string]time.Duration
	tombs  map[string]home.Generation // what it has heard of the end of sessions
	lost   map[string]home.Generation // what it took for lost
	heard  map[string]bool            // of which sessions, in this stay
}

// simWatch is a watch of one channel, and what it was told.
type simWatch struct {
	*Watch
	channel string
	told    map[string]home.Generation
}

func (h *holderNode) start() {
	if h.alive {
		return
	}
	h.life++
	h.alive, h.member = true, fmt.Sprintf("%s@%d", h.name, h.life)
	h.stay = map[shard.PresenceShard]uint64{}
	h.since, h.synced, h.begun = map[shard.PresenceShard]time.Duration{}, map[string]time.Duration{}, map[string]time.Duration{}
	h.heard = map[string]bool{}
	h.tombs, h.lost, h.watches = map[string]home.Generation{}, map[string]home.Generation{}, nil
	h.real = New(Config{
		Sessions: 1000, Channels: 10, Resume: 100, Tombstones: 1000, Watches: 10, Queue: 1000, Grace: simGrace, Ended: h.ended,
		Leave: func(channel string) time.Duration { return simLeave[channel] },
	})
	life := h.life
	runs := func() bool { return h.alive && h.life == life }
	h.w.every(time.Second, func() bool {
		if runs() {
			h.renew()
		}
		return runs()
	})
	h.w.every(500*time.Millisecond, func() bool {
		if runs() {
			h.tick()
		}
		return runs()
	})
	h.renew()
	h.w.changed()
}

func (h *holderNode) crash() {
	if !h.alive {
		return
	}
	h.w.trace("%s crashes", h.member)
	h.alive, h.cut = false, false
	h.w.destroyed()
	h.w.after(h.w.upTo(time.Second), func() {
		for _, e := range h.w.edges {
			e.broken(h.member)
		}
	})
}

// see takes a new view.
func (h *holderNode) see() {
	held := map[shard.PresenceShard]Held{}
	for s, row := range h.view.rows {
		if row.First != h.member && row.Second != h.member {
			delete(h.since, s)
			continue
		}
		held[s] = Held{Epoch: row.Epoch, First: row.First == h.member, Since: row.Since(h.member)}
		if _, ok := h.since[s]; !ok || h.stay[s] != held[s].Since {
			h.since[s], h.stay[s] = h.w.now, held[s].Since
			for id := range h.lost {
				if shard.OfSession(id) == s {
					delete(h.lost, id)
				}
			}
			for id := range h.heard {
				if shard.OfSession(id) == s {
					delete(h.heard, id)
				}
			}
		}
	}
	h.real.SetHeld(held)
	var edges []string
	for member := range h.view.edges {
		edges = append(edges, member)
	}
	slices.Sort(edges)
	h.real.SetEdges(edges, h.w.clock())
	h.check()
	h.w.destroyed()
}

func (h *holderNode) tick() {
	now := h.w.clock()
	for _, s := range simShards {
		for id, r := range h.real.parts[s].records {
			if at := r.home.lost; !at.IsZero() && now.Sub(at) >= home.Adoptable(simTimeout, 0, simMaxInterval) {
				h.w.sessions[id].excused = true
			}
		}
	}
	h.real.Tick(now)
	h.waitsNoLonger(now)
	h.check()
}

// waitsNoLonger demands that no roster shows a session that was lost for longer
// than its channel waits, and that others do not leave.
func (h *holderNode) waitsNoLonger(now time.Time) {
	for channel, leave := range simLeave {
		shown := map[string]bool{}
		for _, m := range h.real.Members(channel, 1000) {
			shown[m.Session] = true
		}
		for _, s := range simShards {
			for id, r := range h.real.parts[s].records {
				_, on := r.find(channel)
				lost := !r.home.lost.IsZero() && now.Sub(r.home.lost) >= leave
				h.w.require(!lost || !shown[id], "%s shows %s on %s, which was lost %v ago", h.member, id, channel, now.Sub(r.home.lost))
				h.w.require(!on || lost || r.claim != nil || shown[id] || !h.real.parts[s].First || !r.home.lost.IsZero(),
					"%s does not show %s on %s, which is not lost", h.member, id, channel)
			}
		}
	}
}

// ended hears of sessions that are over for this holder.
func (h *holderNode) ended(e Ended) {
	h.w.trace("%s: %s ended in %v: %s", h.member, e.Session, e.Generation, e.Reason)
	h.tombs[e.Session] = e.Generation
	if e.Reason == Vanished && h.w.newest(e.Session).After(e.Generation) && h.w.now-h.w.fault < 40*time.Second {
		// It has moved, which neither its old home could say, nor its new one, both
		// parted from this holder; nor was this one asked to let it.
		h.w.sessions[e.Session].excused = true
	}
	if e.Reason == Lost {
		h.w.count.lost++
	}
}

// check demands what holds at every moment: nobody comes back in a generation
// that was over (S9), or lost (19).
func (h *holderNode) check() {
	h.follow()
	for _, s := range simShards {
		for _, r := range h.real.parts[s].records {
			h.checkOne(r)
		}
	}
}

func (h *holderNode) checkOne(r *record) {
	if g, over := h.tombs[r.id]; over {
		h.w.require(r.generation.After(g), "S9: %s knows %s in %v, which was over in %v", h.member, r.id, r.generation, g)
	}
	g, was := h.lost[r.id]
	switch {
	case !r.home.lost.IsZero():
		h.lost[r.id] = r.generation
	case was:
		h.w.require(r.generation.After(g), "19: %s believes in %s in %v again, which was lost", h.member, r.id, r.generation)
		delete(h.lost, r.id)
	}
}

// follow reads what watches were told.
func (h *holderNode) follow() {
	for _, name := range simChannels {
		if !slices.ContainsFunc(h.watches, func(w *simWatch) bool { return w.channel == name }) {
			real, err := h.real.Watch(name, func() {})
			if err != nil {
				panic(err)
			}
			h.watches = append(h.watches, &simWatch{real, name, map[string]home.Generation{}})
		}
	}
	for _, w := range slices.Clone(h.watches) {
		for {
			events, err := w.Next()
			if err != nil {
				w.Close()
				h.watches = slices.DeleteFunc(h.watches, func(o *simWatch) bool { return o == w })
				break
			}
			if len(events) == 0 {
				break
			}
			for _, e := range events {
				h.hear(w, e)
			}
		}
	}
}

func (h *holderNode) hear(w *simWatch, e Event) {
	id, g := e.Member.Session, e.Member.Generation
	last, on := w.told[id]
	h.w.require(on != e.Joined, "%s told %v of %s on %s twice", h.member, e.Joined, id, w.channel)
	h.w.require(!last.After(g), "S12: %s told of %s in %v after %v", h.member, id, g, last)
	if e.Joined {
		w.told[id] = g
	} else {
		delete(w.told, id)
		h.left(id, w.channel)
	}
}

// left checks, while nothing goes wrong, that who leaves has left.
func (h *holderNode) left(id, channel string) {
	if !h.w.calm && !h.w.still || h.w.now-h.w.fault < 60*time.Second || h.w.sessions[id].excused {
		return
	}
	for _, e := range h.w.edges {
		if s := e.sessions[id]; s != nil && s.seat.Serves() && h.w.now-s.changed > 2*time.Second {
			h.w.require(!slices.Contains(s.channels, channel), "%s told that %s left %s, which it did not", h.member, id, channel)
		}
	}
}

// agree demands that watches know the rosters.
func (h *holderNode) agree() {
	for _, w := range h.watches {
		members := h.real.Members(w.channel, 1000)
		h.w.require(len(members) == len(w.told), "a watch of %s at %s knows %v, the roster is %v", w.channel, h.member, w.told, members)
	}
}

// answer answers a question for an edge, and checks that it may.
func (h *holderNode) answer(id string, err error) {
	if err != ErrUnknown { //nolint:errorlint // as it comes
		return
	}
	h.w.count.unknown++
	s := shard.OfSession(id)
	if h.w.etcd.rows[s].First != h.member || // it does not know yet; nor does who asked
		!h.heard[id] && h.w.now-h.w.fault < 40*time.Second { // its home may have been parted from this holder
		h.w.sessions[id].excused = true
	}
	since, ok := h.since[s]
	h.w.require(ok, "S8: %s says that %s is unknown and does not hold %d", h.member, id, s)
	h.w.require(h.view.rows[s].First == h.member, "8: %s answers for %s and is not the first holder", h.member, id)
	for member := range h.view.edges {
		at, ok := h.synced[fmt.Sprint(member, s)]
		h.w.require(ok && at >= since, "S8: %s says that %s is unknown and has not heard %s", h.member, id, member)
	}
}
