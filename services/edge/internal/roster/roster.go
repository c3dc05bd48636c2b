// Package roster is what an edge knows of who is on a channel, and what it has
// told its sessions that watch that. It is a pure state machine: changes come in,
// and what is to be told comes out.
//
//  1. A watcher is told all of the roster first, and then changes, in order.
//  2. All who were told are told the same. What is new comes out once for all of
//     them, however many changes it was; what went back meanwhile is no news.
//  3. A watcher to whom something could not be told is told all of it again.
//  4. What is known stays while presence cannot be asked. Only what differs once
//     it can again is told, so nobody leaves and joins because of that.
package roster

import (
	"encoding/json"
	"time"

	"github.com/comet-push/comet/internal/roster"
)

// Roster is one channel's, with its watchers. The zero value is not ready for
// use; see New.
type Roster[W comparable] struct {
	members bool // are told, not only their count

	known, told roster.State
	heard       bool // presence has told something
	telling     bool // and told is told to whom it is not owed
	watchers    map[W]*Watcher[W]
	owed        map[*Watcher[W]]struct{}
	whole       []byte // of told, once it was needed
}

// Watcher is one stay of somebody who watches.
type Watcher[W comparable] struct{ Who W }

// New returns a roster without watchers. members: they are told who is there, as
// long as these are not too many; else only how many.
func New[W comparable](members bool) *Roster[W] {
	return &Roster[W]{members: members, watchers: map[W]*Watcher[W]{}, owed: map[*Watcher[W]]struct{}{}}
}

// Len is how many watch.
func (r *Roster[W]) Len() int { return len(r.watchers) }

// Add lets somebody watch.
func (r *Roster[W]) Add(who W) {
	r.Remove(who)
	w := &Watcher[W]{who}
	r.watchers[who] = w
	r.owed[w] = struct{}{}
}

// Remove ends that.
func (r *Roster[W]) Remove(who W) {
	if w := r.watchers[who]; w != nil {
		delete(r.watchers, who)
		delete(r.owed, w)
	}
}

// Owe notes that a watcher has lost what it was told.
func (r *Roster[W]) Owe(who W) {
	if w := r.watchers[who]; w != nil {
		r.owed[w] = struct{}{}
	}
}

// Learn takes what presence says.
func (r *Roster[W]) Learn(c roster.Change) {
	r.known, r.heard = r.known.After(c), true
}

// Pending reports whether there are news.
func (r *Roster[W]) Pending() bool {
	if !r.heard {
		return false
	}
	_, differs := r.told.Until(r.known)
	return differs || !r.telling
}

// News takes the news: what to tell, and to whom. It is nil if there is nothing,
// or nobody to be told.
func (r *Roster[W]) News() (data []byte, to []*Watcher[W]) {
	if !r.Pending() {
		return nil, nil
	}
	change, _ := r.told.Until(r.known)
	first := !r.telling
	r.told, r.telling, r.whole = r.known, true, nil
	if first || len(r.owed) == len(r.watchers) {
		return nil, nil
	}
	for _, w := range r.watchers {
		if _, owed := r.owed[w]; !owed {
			to = append(to, w)
		}
	}
	return r.encode(change), to
}

// Owed returns all that was told, and to whom it is owed. It is nil if nobody is
// owed anything, or nothing is known.
func (r *Roster[W]) Owed() (data []byte, to []*Watcher[W]) {
	if !r.telling || len(r.owed) == 0 {
		return nil, nil
	}
	if r.whole == nil {
		r.whole = r.encode(r.told.Whole())
	}
	for w := range r.owed {
		to = append(to, w)
	}
	return r.whole, to
}

// Told notes whether a watcher could be told.
func (r *Roster[W]) Told(w *Watcher[W], told bool) {
	switch {
	case told:
		delete(r.owed, w)
	case r.watchers[w.Who] == w:
		r.owed[w] = struct{}{}
	}
}

// member is one as it is told.
type member struct {
	Session string    `json:"session"`
	User    string    `json:"user,omitempty"`
	Since   time.Time `json:"since"`
}

func members(list []roster.Member) []member {
	all := make([]member, len(list))
	for i, m := range list {
		all[i] = member{m.Session, m.User, m.Since.UTC().Truncate(time.Millisecond)}
	}
	return all
}

// encode writes a change as clients are told it.
func (r *Roster[W]) encode(c roster.Change) []byte {
	var data any
	switch {
	case !c.Listed && r.members:
		data = struct {
			Count     uint64 `json:"count"`
			Truncated bool   `json:"truncated"`
		}{c.Count, true}
	case !c.Listed:
		data = struct {
			Count uint64 `json:"count"`
		}{c.Count}
	case c.Whole:
		data = struct {
			Count   uint64   `json:"count"`
			Members []member `json:"members"`
		}{c.Count, members(c.Joined)}
	default:
		data = struct {
			Count  uint64   `json:"count"`
			Joined []member `json:"joined"`
			Left   []member `json:"left"`
		}{c.Count, members(c.Joined), members(c.Left)}
	}
	text, err := json.Marshal(data)
	if err != nil {
		return nil // such data always has an encoding
	}
	return text
}
