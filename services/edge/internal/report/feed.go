package report

import (
	"slices"
	"time"

	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/shard"
)

// feed is what one node has not been told yet. But for marked, Reporter.mu
// guards it.
type feed struct {
	marked chan struct{} // of one: there is something to tell

	held    [shard.PresenceShards]bool   // by the node
	pending []shard.PresenceShard        // newly held: all their sessions are to be sent
	dirty   map[string]marks             // by session; nil while there is no stream
	gone    int                          // of these
	urgent  bool                         // somebody waits until some of them are kept
	marks   [shard.PresenceShards]uint32 // how often something of a shard was marked
	summed  shard.PresenceShard          // the last one that was summed up
	// overflow: too many ends waited.
	overflow bool
}

// marks are what was marked of one session and has not been sent.
type marks struct {
	gone     *edgev1.SessionGone // its end, nil: none
	changed  bool                // and its state is to follow, if it is here
	resumed  bool                // where it stands has changed; no more, unless changed
	confirms []*confirmation     // wait until all this is kept
}

// assign says which shards a node holds now. What it does not hold any more is
// not sent.
func (r *Reporter) assign(f *feed, held []shard.PresenceShard) {
	var now [shard.PresenceShards]bool
	r.mu.Lock()
	defer r.mu.Unlock()
	r.feeds[f] = struct{}{}
	for _, n := range held {
		if now[n] = true; !f.held[n] && f.dirty != nil {
			f.pending = append(f.pending, n)
		}
	}
	if f.held = now; len(f.pending) > 0 {
		f.signal()
	}
}

// forget ends a feed.
func (r *Reporter) forget(f *feed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.feeds, f)
}

// signal wakes who sends.
func (f *feed) signal() {
	select {
	case f.marked <- struct{}{}:
	default:
	}
}

func (f *feed) holds(session string) bool { return f.held[shard.OfSession(session)] }

func (f *feed) mark(session string, gone *edgev1.SessionGone) {
	if f.dirty == nil {
		return // no stream: all will be sent
	}
	f.marks[shard.OfSession(session)]++
	m := f.dirty[session]
	if gone == nil {
		m.changed = true
	} else {
		if m.gone == nil {
			f.gone++
		}
		m.gone = gone // what changed is still told, for it may be here again
	}
	if f.gone > maxGone {
		f.overflow, f.dirty = true, nil
	} else {
		f.dirty[session] = m
	}
	if f.overflow || len(f.dirty) == 1 {
		f.signal()
	}
}

// begin makes the feed collect changes.
func (r *Reporter) begin(f *feed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.dirty, f.gone, f.overflow, f.urgent = map[string]marks{}, 0, false, false
	f.pending = nil
	for n, held := range f.held {
		if held {
			f.pending = append(f.pending, shard.PresenceShard(n))
		}
	}
}

// want has shards sent again that a node asks for.
func (r *Reporter) want(f *feed, shards []uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range shards {
		if p := shard.PresenceShard(n); p < shard.PresenceShards && f.dirty != nil && !slices.Contains(f.pending, p) {
			f.pending = append(f.pending, p)
		}
	}
	if len(f.pending) > 0 {
		f.signal()
	}
}

// takeShards takes the shards out of the feed that are newly held.
func (r *Reporter) takeShards(f *feed) (shards []shard.PresenceShard) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range f.pending {
		if f.held[n] {
			shards = append(shards, n)
		}
	}
	f.pending = nil
	return shards
}

// take takes at most a batch of changes out of the feed, and who waits for
// others, which are not sent; ok is false if it overflowed.
func (r *Reporter) take(f *feed) (changes map[string]marks, unsent []*confirmation, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	changes = map[string]marks{}
	for session, m := range f.dirty {
		if len(changes) == batchMost {
			break
		}
		delete(f.dirty, session)
		if m.gone != nil {
			f.gone--
		}
		if f.holds(session) {
			changes[session] = m
		} else {
			unsent = append(unsent, m.confirms...)
		}
	}
	f.urgent = f.urgent && len(f.dirty) > 0
	return changes, unsent, !f.overflow
}

// sumsEach is how many shards are summed up at a time.
const sumsEach = 4

// summable takes the next shards to be summed up, and how often something was
// marked of them.
func (r *Reporter) summable(f *feed) (shards []shard.PresenceShard, marks []uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for range shard.PresenceShards {
		f.summed = (f.summed + 1) % shard.PresenceShards
		if f.held[f.summed] && !slices.Contains(f.pending, f.summed) {
			shards, marks = append(shards, f.summed), append(marks, f.marks[f.summed])
		}
		if len(shards) == sumsEach {
			break
		}
	}
	return shards, marks
}

// unmarked reports whether nothing was marked of a shard since, and it is not to
// be sent anew.
func (r *Reporter) unmarked(f *feed, n shard.PresenceShard, marks uint32) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return f.held[n] && f.marks[n] == marks && !slices.Contains(f.pending, n)
}

// wait is how long what was marked waits for more.
func (r *Reporter) wait(f *feed) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.urgent {
		return confirmEvery
	}
	return batchEvery
}
