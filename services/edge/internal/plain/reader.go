package plain

import (
	"time"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
	"github.com/comet-push/comet/services/edge/internal/frame"
)

// Reader is one request.
type Reader struct {
	cfg  *Config
	born time.Time // times below count from it, so they are monotonic and small

	// Where it stands. What is sent includes what waits in the queue.
	channel string // if it reads one literal channel
	at      uint64 // then: all up to here was sent, or is lost
	many    *many  // else
	start   *start // until all that is pushed is sent

	// How it is answered.
	batch    *batch // a poll or long-poll
	lost     *lost  // channels that are to be told of
	queue    *queue // while events wait for a stream that is full
	bytes    int    // of a stream, without the open frame
	framed   time.Duration
	due      time.Duration // when to look whether a heartbeat or cursor is due
	ended    Reason
	shape    Shape
	encoding event.Encoding
	opened   bool // all interests are joined
	blocked  bool
	flowed   bool // messages went out since the last cursor
}

// lost are channels and patterns of which messages are gone.
type lost struct {
	channels []string
	due      time.Duration
}

// New makes the reader of a request; Start comes next. cfg is what
// Config.Defaults returned.
func New(cfg *Config, req Request, now time.Time) *Reader {
	r := &Reader{cfg: cfg, born: now, shape: req.Shape, encoding: req.Encoding}
	if len(req.Channels) == 1 && !bayeux.IsPattern(req.Channels[0]) {
		r.channel = req.Channels[0]
	} else {
		r.many = &many{channels: req.Channels}
		if r.encoding == event.SSE {
			r.encoding = event.SSEWithoutID
		}
	}
	r.start = &start{req: req, joining: ^uint64(0) >> (64 - len(req.Channels)), ahead: 1, limit: cfg.Page}
	if req.Shape != Stream {
		r.batch = &batch{messages: req.Limit, bytes: cfg.BatchBytes}
	}
	return r
}

// Encoding is the one in which events go to the stream after Deliver.
func (r *Reader) Encoding() event.Encoding { return r.encoding }

// Ended is why the reader is over, or empty.
func (r *Reader) Ended() Reason { return r.ended }

// Holding reports whether a long-poll waits for news.
func (r *Reader) Holding() bool { return r.ended == "" && r.batch != nil && r.batch.holding }

// Queued is how many events wait for the stream.
func (r *Reader) Queued() int {
	if r.queue == nil {
		return 0
	}
	return len(r.queue.items)
}

// Start asks for the interests. From now on a long-poll waits.
func (r *Reader) Start(now time.Time, out *Effects) {
	if r.ended != "" {
		return
	}
	if r.shape == LongPoll {
		r.batch.until = r.since(now) + r.start.req.Wait
	}
	for i, channel := range r.channels() {
		out.Interests = append(out.Interests, Interest{Token: uint64(i + 1), Channel: channel})
	}
}

// Subscribed answers an Interest: err, or that everything on it after the
// positions is given to Deliver, or was already. A literal channel has one
// position, a pattern one per slot. The reader does not keep from.
func (r *Reader) Subscribed(now time.Time, token uint64, from []shard.Position, err *bayeux.Error, out *Effects) {
	s, joined := r.start, uint64(1)<<(token-1)
	if r.ended != "" || r.opened || s.joining&joined == 0 {
		return
	}
	if err != nil {
		r.refuse(r.channels()[token-1], err, out)
		return
	}
	for _, p := range from {
		s.raise(p)
	}
	if s.joining &^= joined; s.joining == 0 {
		r.open(now, out)
	}
}

// open begins the stream, or the reading for an answer.
func (r *Reader) open(now time.Time, out *Effects) {
	at := r.since(now)
	r.opened = true
	r.place()
	if r.batch == nil {
		r.greet(at, out)
		r.due = at + r.cfg.Heartbeat
		if r.many != nil {
			r.due = at + min(r.cfg.Heartbeat, r.cfg.CursorEvery)
		}
	}
	r.proceed(at, out)
}

// greet sends the frame that begins a stream.
func (r *Reader) greet(at time.Duration, out *Effects) {
	req, cursor := &r.start.req, r.cursor()
	object := AppendOpen(nil, cursor, r.cfg.Heartbeat, req.Padding)
	r.emit(at, First(r.encoding, req.Callback, cursor, object), out)
	r.bytes = 0
}

// proceed does what can be done next, unless the stream is full.
func (r *Reader) proceed(at time.Duration, out *Effects) {
	if r.ended != "" || r.blocked {
		return
	}
	if r.start != nil && r.opened && len(r.start.slots) == 0 {
		r.start = nil
	}
	if r.batch != nil {
		r.advance(at, out)
		return
	}
	if r.lost != nil && at >= r.lost.due {
		r.tell(at, out)
	}
	if r.release(at, out); r.encoding == event.Script && r.bytes > r.cfg.FrameMaxBytes {
		r.reload(at, out)
		return
	}
	switch reads := r.start != nil && r.opened && r.start.asked == nil; {
	case r.queue != nil, reads && len(out.Frames) > 0:
		out.More = true // first see whether the stream is full
	case reads:
		r.ask(r.start.next(), r.start.limit, out)
	}
}

// Deliver gives the reader an entry that matches one of its interests, via. It
// reports whether the event is to be sent to the stream now, in the reader's
// Encoding; out is then untouched. Otherwise out says what is to be done.
func (r *Reader) Deliver(now time.Time, via string, e *event.Event, out *Effects) (send bool) {
	if r.ended != "" || !r.takes(via, e) {
		return false
	}
	at := r.since(now)
	switch {
	case r.batch != nil:
		r.answerWith(e, out)
		return false
	case r.blocked || r.queue != nil:
		r.enqueue(at, e, out)
		return false
	case r.lost != nil && r.many == nil: // the event's position is a cursor
		r.at--
		r.tell(at, out)
		r.at++
	case r.encoding != event.Script || r.fits(e):
		r.framed, r.flowed = at, true
		return true
	}
	r.emitEvent(at, e, out)
	r.proceed(at, out)
	return false
}

// fits reports whether an event fits into the frame document, and counts it.
func (r *Reader) fits(e *event.Event) bool {
	bytes := r.bytes + len(e.Frame(r.encoding).Payload())
	if bytes > r.cfg.FrameMaxBytes {
		return false
	}
	r.bytes = bytes
	return true
}

// takes reports whether an entry is to be sent, and notes it.
func (r *Reader) takes(via string, e *event.Event) bool {
	switch {
	case r.start != nil && r.start.withhold(e.At):
		return false
	case r.many == nil:
		if e.At.Offset <= r.at {
			return false
		}
		r.at = e.At.Offset
		return true
	case e.At.Offset <= r.many.base(e.At.Slot) || !r.many.first(via, e.Channel):
		return false
	case r.batch != nil && r.start != nil:
		r.start.fallBack(e.At)
		return false
	}
	return true
}

// Resync says that entries of an interest up to the position are lost, and that
// what comes to Deliver of this slot comes after it.
func (r *Reader) Resync(now time.Time, channel string, position shard.Position, out *Effects) {
	if r.ended != "" || r.start != nil && r.start.withhold(position) {
		return // reading finds out what is lost
	}
	at := r.since(now)
	r.live(position)
	if r.batch != nil {
		r.batch.lose([]string{channel})
		r.batch.until = min(r.batch.until, at+r.cfg.Gather)
		return
	}
	out.Dropped.Resync += r.discard(func(i item) bool { return bayeux.Match(channel, i.event.Channel) })
	r.lose(at, []string{channel})
}

// lose notes that a channel is to be told of.
func (r *Reader) lose(at time.Duration, channels []string) {
	if r.lost == nil {
		r.lost = &lost{due: at + r.cfg.Gather}
	}
	r.lost.channels = union(r.lost.channels, channels)
}

// tell sends what was lost, if anything was. It waits until the cursor is beyond
// the losses: while nothing says where to go on, or while there are events in
// front of them in the queue.
func (r *Reader) tell(at time.Duration, out *Effects) bool {
	switch {
	case r.lost == nil:
		return false
	case r.many != nil && r.queue != nil, r.start != nil && r.start.word() != "":
		r.lost.due = at + r.cfg.Gather
		return false
	}
	r.tellNow(at, out)
	return true
}

func (r *Reader) tellNow(at time.Duration, out *Effects) {
	if r.lost == nil {
		return
	}
	cursor := r.cursor()
	r.emit(at, Control(r.encoding, cursor, AppendResync(nil, cursor, r.lost.channels)), out)
	r.lost = nil
}

func (r *Reader) emit(at time.Duration, f *frame.Frame, out *Effects) {
	out.Frames = append(out.Frames, f)
	r.framed = at
	r.bytes += len(f.Payload())
}

func (r *Reader) emitEvent(at time.Duration, e *event.Event, out *Effects) {
	r.emit(at, e.Frame(r.encoding), out)
	out.count(e)
	r.flowed = true
}

func (e *Effects) count(sent *event.Event) {
	e.Events++
	if sent.Appended().After(e.Newest) {
		e.Newest = sent.Appended()
	}
}

func (r *Reader) channels() []string {
	if r.many != nil {
		return r.many.channels
	}
	return []string{r.channel}
}

func (r *Reader) since(now time.Time) time.Duration { return now.Sub(r.born) }
