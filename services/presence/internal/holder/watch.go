package holder

import "errors"

// Why watches end.
var (
	// ErrSlow: too many changes waited.
	ErrSlow = errors.New("watch fell behind")
	// ErrMoved: the shards that this process answers for are others now.
	ErrMoved = errors.New("other shards are answered for now")
)

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
	holder  *Holder
	channel *channel
	notify  func()
	bare    bool // it is only notified

	listing bool
	listed  string // the last session listed
	queue   []Event
	count   uint64
	over    error
}

// Watch begins to follow a channel. notify is called when there is something
// for Next to return; it must not call back.
func (h *Holder) Watch(name string, notify func()) (*Watch, error) {
	return h.watch(&Watch{notify: notify, listing: true}, name)
}

// Heed begins to follow a channel from afar: notify is called after each change,
// but Next tells none, only whether the watch is over. It never falls behind.
func (h *Holder) Heed(name string, notify func()) (*Watch, error) {
	return h.watch(&Watch{notify: notify, bare: true}, name)
}

func (h *Holder) watch(w *Watch, name string) (*Watch, error) {
	if len(h.watches) >= h.cfg.Watches {
		return nil, ErrLimit
	}
	w.holder, w.channel = h, h.channel(name)
	if w.channel.watches == nil {
		w.channel.watches = make(map[*Watch]struct{})
	}
	w.channel.watches[w], h.watches[w] = struct{}{}, struct{}{}
	w.channel.refs++
	return w, nil
}

// Next returns what came since the last call, or lists on. Nothing: wait until
// notified.
func (w *Watch) Next() ([]Event, error) {
	if w.over != nil {
		return nil, w.over
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
	if w.holder == nil {
		return
	}
	delete(w.holder.watches, w)
	delete(w.channel.watches, w)
	w.holder.release(w.channel)
	w.holder = nil
}

// end ends what the watch hears.
func (w *Watch) end(why error) {
	w.over, w.queue = why, nil
	w.notify()
}

// tell lets the watches of a channel know of a change.
func (c *channel) tell(joined bool, m Member) {
	for w := range c.watches {
		w.hear(joined, m)
	}
}

func (w *Watch) hear(joined bool, m Member) {
	if w.over != nil || w.listing && m.Session > w.listed {
		return
	}
	if w.bare {
		w.notify()
		return
	}
	if len(w.queue) >= w.holder.cfg.Queue {
		w.end(ErrSlow)
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
