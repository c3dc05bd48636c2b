package hub

import (
	"sync"
	"sync/atomic"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
)

// Hub connects the slots a broker serves with its followers.
type Hub struct {
	version func(shard.Slot) int64
	slots   [shard.Slots]atomic.Pointer[Slot]

	mu       sync.RWMutex       // taken with a slot's lock held
	patterns bayeux.Tree[*fans] // guarded by mu
}

// New returns a Hub that serves no slots. version returns the version of the row
// this broker knows; it is called with slot locks held, so it must take none.
func New(version func(shard.Slot) int64) *Hub { return &Hub{version: version} }

// Add begins to serve a slot, whose log the lock guards; the lock is held. A
// slot of that number that is served already is removed first.
func (h *Hub) Add(n shard.Slot, lock sync.Locker, log Log) *Slot {
	h.Remove(n)
	s := &Slot{
		hub:      h,
		number:   n,
		lock:     lock,
		log:      log,
		places:   make(map[*place]struct{}),
		literals: make(map[string]*fans),
	}
	h.slots[n].Store(s)
	return s
}

// AddCopy begins to serve a slot that another member leads, like Add. It is open
// to followers who say that a copy of that one's term will do.
func (h *Hub) AddCopy(n shard.Slot, lock sync.Locker, log Log) *Slot {
	s := h.Add(n, lock, log)
	s.copy = true
	return s
}

// Remove ends serving a slot, whose lock is held. Its followers are told Moved,
// with the version that version now returns.
func (h *Hub) Remove(n shard.Slot) {
	s := h.slots[n].Swap(nil)
	if s == nil {
		return
	}
	s.removed.Store(true)
	s.gone = h.version(n)
	for p := range s.places {
		p.follower.frame(Moved{n, s.gone})
	}
	s.places, s.literals = nil, nil
}

// Log is what the hub reads of a slot, under the slot's lock.
type Log interface {
	Term() uint64
	Base() uint64
	End() uint64
	Committed() uint64
	History() *history.History
	// Fresh reports whether the log has everything that is committed in the
	// slot anywhere, or had it a moment ago.
	Fresh() bool
	// Surely reports whether a position beyond the end is not of this log. If
	// not it is to be asked again: another broker may have gone on with the log.
	Surely() bool
}

// Slot is the fan-out of one served slot.
type Slot struct {
	hub    *Hub
	number shard.Slot
	lock   sync.Locker
	log    Log
	copy   bool // guarded by lock; another member leads

	removed atomic.Bool // set with the lock held
	gone    int64       // guarded by lock; the version that removed it

	places   map[*place]struct{} // guarded by lock
	literals map[string]*fans    // guarded by lock
}

// Followed reports whether anybody has the slot open. The slot's lock is held.
func (s *Slot) Followed() bool { return len(s.places) > 0 }

// Publish fans out what the log's Commit returned. The slot's lock is held.
func (s *Slot) Publish(entries []*history.Entry) {
	if !s.Followed() {
		return // nor has anybody an interest in it
	}
	for _, e := range entries {
		s.publish(e)
	}
}

func (s *Slot) publish(e *history.Entry) {
	if f := s.literals[e.Channel]; f != nil {
		for _, in := range f.interests {
			in.place.push(e)
		}
	}
	s.hub.mu.RLock()
	defer s.hub.mu.RUnlock()
	s.hub.patterns.Match(e.Channel, func(f *fans) {
		for _, in := range f.interests {
			if p := in.follower.places[s.number].Load(); p != nil && p.slot == s {
				p.push(e)
			}
		}
	})
}

// Info is what is known of a channel.
type Info struct {
	history.Info
	// Followers is how many have an interest of exactly this name.
	Followers int
}

// List returns channels by name: the first limit after a name that match a
// pattern and have retained entries or followers. The slot's lock is held.
func (s *Slot) List(pattern, after string, limit int) []Info {
	names := func(yield func(string) bool) {
		for name := range s.literals {
			if !yield(name) {
				return
			}
		}
	}
	found := s.log.History().List(pattern, after, limit, names)
	infos := make([]Info, len(found))
	for i, info := range found {
		infos[i].Info = info
		if f := s.literals[info.Channel]; f != nil {
			infos[i].Followers = len(f.interests)
		}
	}
	return infos
}
