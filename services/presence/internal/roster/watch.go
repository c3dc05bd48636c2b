package roster

import "errors"

// ErrSlow says that a watch ended because too many changes waited for it.
var ErrSlow = errors.New("watch fell behind")

// page is how many members a watch lists at a time.
const page = 256

// Event is one change of a channel's members, as one watch sees it.
type Event struct {
	// Joined says whether the member came or left.
	Joined bool
	Member Member
	// Count is how many members the watch knows after it.
	Count uint64
}

// Watch is somebody who follows a channel's members. It first lists those
// there are, by session, page by page; meanwhile it hears only of changes to
// members that its list has passed, so a roster of any size waits in no queue.
type Watch struct {
	roster  *Roster
	channel *channel
	notify  func()

	listing bool
	listed  string // the last session listed
	queue   []Event
	count   uint64
	slow    bool
}

// Watch begins to follow a channel. notify is called when there is something
// for Next to return; it must not call back.
func (r *Roster) Watch(name string, notify func()) (*Watch, error) {
	if r.watches >= r.limits.Watches {
		return nil, ErrLimit
	}
	r.watches++
	w := &Watch{roster: r, channel: r.channel(name), notify: notify, listing: true}
	w.channel.watches[w] = struct{}{}
	return w, nil
}

// Next returns what came since the last call, or lists on. Nothing: wait until
// notified.
func (w *Watch) Next() ([]Event, error) {
	if w.slow {
		return nil, ErrSlow
	}
	events := w.queue
	w.queue = nil
	if !w.listing {
		return events, nil
	}
	members := w.channel.list(w.listed, page)
	for _, m := range members {
		w.count++
		w.listed = m.Session
		events = append(events, Event{Joined: true, Member: m, Count: w.count})
	}
	w.listing = len(members) == page
	return events, nil
}

// Close ends the watch.
func (w *Watch) Close() {
	if w.roster == nil {
		return
	}
	w.roster.watches--
	delete(w.channel.watches, w)
	w.roster.tidy(w.channel)
	w.roster = nil
}

// tell lets the watches of a channel know of a change.
func (c *channel) tell(joined bool, m Member) {
	for w := range c.watches {
		w.hear(joined, m)
	}
}

func (w *Watch) hear(joined bool, m Member) {
	if w.slow || w.listing && m.Session > w.listed {
		return
	}
	if len(w.queue) >= w.roster.limits.Queue {
		w.slow, w.queue = true, nil
		w.notify()
		return
	}
	if joined {
		w.count++
	} else {
		w.count--
	}
	w.queue = append(w.queue, Event{Joined: joined, Member: m, Count: w.count})
	w.notify()
}
