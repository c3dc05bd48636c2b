package holder

import (
	"errors"
	"maps"
	"math/bits"
	"slices"
	"time"

	"github.com/comet-push/comet/internal/home"
	"github.com/comet-push/comet/internal/shard"
)

// The errors of a holder.
var (
	// ErrLimit: one more session, channel, byte or watch would be too many.
	ErrLimit = errors.New("holder is full")
	// ErrAbsent: the edge is not in the directory, as far as this process knows.
	ErrAbsent = errors.New("the edge is not announced")
	// ErrNotFirst: another process is the first holder of the shard.
	ErrNotFirst = errors.New("another process is the first holder of the shard")
	// ErrNotReady: not every edge has synced the shard.
	ErrNotReady = errors.New("not every edge has told of all its sessions")
	// ErrUnknown: no edge has told of such a session.
	ErrUnknown = errors.New("no such session")
	// ErrOver: it is over.
	ErrOver = errors.New("the session is over")
)

// Config bounds a holder.
type Config struct {
	// Sessions of all edges.
	Sessions int
	// Channels of one session.
	Channels int
	// Resume is how many bytes of State.Resume one session may have.
	Resume int
	// Tombstones are the ends of sessions that are remembered.
	Tombstones int
	// Watches of all channels.
	Watches int
	// Queue is how many changes may wait for one watch.
	Queue int
	// Grace is the least time for which a lost session can be claimed.
	Grace time.Duration
	// Leave is how long after its home was lost a session leaves the roster of a
	// channel, if that is sooner than its record is over; 0: with that. It may be
	// nil: so for all channels.
	Leave func(channel string) time.Duration
	// Ended hears of every session that is over, unless it is nil, as the next
	// two. They must not call back.
	Ended func(Ended)
	// Left hears of every channel that a session left and outlived.
	Left func(Left)
	// Again hears of sessions that were taken for over and are there in a later
	// generation: they had only moved.
	Again func(session string, g home.Generation)
}

const (
	remember = 10 * time.Minute // ends of sessions
	install  = 30 * time.Second // for a claimer to report the session
	maxTold  = 1 << 16          // answers that wait for one edge
)

// Moved is the reason for which an edge says that a session is gone if it is no
// more its home: it is lost, unless a later home reports it.
const Moved = "moved"

// Held says how a shard is held.
type Held struct {
	// Epoch is that of the shard's row.
	Epoch uint64
	// First says that this process answers for it.
	First bool
	// Since tells its stays as a holder apart: with another one it may have been
	// none in between, and have missed what was said then.
	Since uint64
}

// Holder is the records of some shards.
type Holder struct {
	cfg      Config
	known    bool             // the directory has been heard
	edges    map[string]*edge // in the directory, by member
	parts    [shard.PresenceShards]part
	held     set
	first    set
	sessions int
	channels map[string]*channel
	users    map[string]*record // the first of each user's
	tombs    map[string]tomb
	buried   []grave // from the oldest
	claims   []*record
	away     map[membership]struct{} // that rosters do not show, for their homes are lost
	due      time.Time               // when a lost record may be over; zero: none is lost
	watches  map[*Watch]struct{}
}

// part is a shard.
type part struct {
	Held
	records map[string]*record // nil: not held
}

// edge is one stay of an edge in the directory.
type edge struct {
	member string
	lost   time.Time // zero: it is there
	vector []uint64
	round  uint32 // which of its feeds is the present one
	fed    bool
	notify func()
	synced set // by any of its feeds, since the shard is held
	said   set // shards that the present feed has said anything of
	deaf   set // of which what it says is incomplete
	wanted set // of these those that are still to be asked for
	told   []Superseded
}

// Superseded is the answer to a report that was refused.
type Superseded struct {
	Session    string
	Generation home.Generation
	// Home is empty if the session is over.
	Home string
}

// New returns a holder of nothing.
func New(cfg Config) *Holder {
	return &Holder{
		cfg: cfg, edges: make(map[string]*edge), channels: make(map[string]*channel),
		users: make(map[string]*record), tombs: make(map[string]tomb), watches: make(map[*Watch]struct{}),
		away: make(map[membership]struct{}),
	}
}

// Sessions returns how many records there are.
func (h *Holder) Sessions() int { return h.sessions }

// Edges returns how many edges have a feed.
func (h *Holder) Edges() int {
	n := 0
	for _, e := range h.edges {
		if e.fed {
			n++
		}
	}
	return n
}

// Watches returns how many there are.
func (h *Holder) Watches() int { return len(h.watches) }

// SetHeld says which shards are held.
func (h *Holder) SetHeld(held map[shard.PresenceShard]Held) {
	moved := false
	for s := range shard.PresenceShard(shard.PresenceShards) {
		p := &h.parts[s]
		is, ok := held[s]
		if p.records != nil && (!ok || is.Since != p.Since) {
			moved = moved || p.First
			h.forget(s)
		}
		if ok && p.records == nil {
			h.hold(s)
		}
		if is.First != p.First {
			moved = true
			for _, r := range p.records {
				h.index(r, is.First)
			}
		}
		p.Held = is
		h.first.put(s, is.First)
	}
	for w := range h.watches {
		if moved {
			w.end(ErrMoved)
		}
	}
}

// hold begins to hold a shard.
func (h *Holder) hold(s shard.PresenceShard) {
	h.parts[s].records = make(map[string]*record)
	h.held.put(s, true)
	for _, e := range h.edges {
		e.synced.put(s, false)
		if e.said.has(s) {
			e.deaf.put(s, true)
			e.wanted.put(s, true)
			e.wake()
		}
	}
}

// forget ends holding a shard.
func (h *Holder) forget(s shard.PresenceShard) {
	p := &h.parts[s]
	for _, r := range p.records {
		h.index(r, false)
		for _, sub := range r.subs {
			h.forgive(r, sub.channel)
			h.release(sub.channel)
		}
		r.claim = nil
	}
	h.sessions -= len(p.records)
	p.records = nil
	h.held.put(s, false)
}

// SetEdges says which edges the directory lists.
func (h *Holder) SetEdges(members []string, now time.Time) {
	h.known = true
	for _, member := range members {
		if h.edges[member] == nil {
			h.edges[member] = &edge{member: member}
		}
	}
	for member, e := range h.edges {
		if slices.Contains(members, member) {
			continue
		}
		delete(h.edges, member)
		e.fed, e.lost, e.told = false, now, nil
		e.wake()
		h.dueAt(now)
	}
}

// dueAt notes when lost records are to be looked at.
func (h *Holder) dueAt(at time.Time) {
	if h.due.IsZero() || at.Before(h.due) {
		h.due = at
	}
}

// Tick lets time pass: it ends records that were lost for too long, and what
// else is over. Call it every second or so.
func (h *Holder) Tick(now time.Time) {
	h.tickClaims(now)
	h.tickTombs(now)
	if h.due.IsZero() || now.Before(h.due) {
		return
	}
	h.due = time.Time{}
	for s := range h.parts {
		var over, leave []*record
		for _, r := range h.parts[s].records {
			if r.home.lost.IsZero() {
				continue
			}
			if at := r.home.lost.Add(max(r.adoptable, h.cfg.Grace)); now.Before(at) {
				h.dueAt(at)
				if h.leaves(r, now) {
					leave = append(leave, r)
				}
			} else {
				over = append(over, r)
			}
		}
		h.withdraw(leave, now)
		h.endAll(over, Lost, now)
	}
}

// tickClaims makes those records lost that nobody installed.
func (h *Holder) tickClaims(now time.Time) {
	waiting := h.claims[:0]
	for _, r := range h.claims {
		switch {
		case r.claim == nil:
			r.listed = false
		case now.Sub(r.claim.at) < install:
			waiting = append(waiting, r)
		default:
			r.listed = false
			h.lose(r, now)
		}
	}
	clear(h.claims[len(waiting):])
	h.claims = waiting
}

// lose makes a record lost whose home is still there.
func (h *Holder) lose(r *record, now time.Time) {
	if r.home.lost.IsZero() {
		r.home = &edge{member: r.home.member, vector: r.home.vector, lost: now}
		h.dueAt(now)
	}
}

// Missing returns which edges have not synced all shards that this process is
// the first holder of; ok is false before the directory was heard.
func (h *Holder) Missing() (edges []string, ok bool) {
	for _, member := range slices.Sorted(maps.Keys(h.edges)) {
		if !h.edges[member].synced.covers(h.first) {
			edges = append(edges, member)
		}
	}
	return edges, h.known
}

// ready reports whether every edge has synced a shard.
func (h *Holder) ready(s shard.PresenceShard) bool {
	for _, e := range h.edges {
		if !e.synced.has(s) {
			return false
		}
	}
	return h.known
}

// First returns the shards that this process answers for, in order.
func (h *Holder) First() []shard.PresenceShard { return h.first.list() }

func (e *edge) wake() {
	if e.notify != nil {
		e.notify()
	}
}

// tell queues an answer for an edge.
func (e *edge) tell(s Superseded) {
	if !e.fed {
		return
	}
	if len(e.told) >= maxTold { // it does not listen: let it begin anew
		e.fed, e.told = false, nil
	} else {
		e.told = append(e.told, s)
	}
	e.wake()
}

// set is some shards.
type set [shard.PresenceShards / 64]uint64

func (b *set) has(s shard.PresenceShard) bool { return b[s/64]&(1<<(s%64)) != 0 }

func (b *set) put(s shard.PresenceShard, in bool) {
	if in {
		b[s/64] |= 1 << (s % 64)
	} else {
		b[s/64] &^= 1 << (s % 64)
	}
}

// covers reports whether all of other are in the set.
func (b *set) covers(other set) bool {
	for i := range b {
		if other[i]&^b[i] != 0 {
			return false
		}
	}
	return true
}

func (b *set) list() []shard.PresenceShard {
	var list []shard.PresenceShard
	for i, word := range b {
		for ; word != 0; word &= word - 1 {
			list = append(list, shard.PresenceShard(64*i+bits.TrailingZeros64(word)))
		}
	}
	return list
}
