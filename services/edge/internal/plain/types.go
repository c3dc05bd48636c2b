package plain

import (
	"time"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
	"github.com/comet-push/comet/services/edge/internal/frame"
)

// Config is shared by all readers of an edge and must not change. Defaults
// fills in what stands in brackets.
type Config struct {
	// Heartbeat is after how long without a frame a stream gets one [25 s].
	Heartbeat time.Duration
	// CursorEvery is how often a stream of several channels or patterns gets a
	// cursor while messages flow [10 s].
	CursorEvery time.Duration
	// Gather is how long a loss waits for others before it is told [250 ms].
	Gather time.Duration
	// Retry is what clients are asked to wait on average when a stream ends, if
	// the shell does not say [2 s].
	Retry time.Duration
	// FrameMaxBytes is how much goes into one frame document [1 MiB].
	FrameMaxBytes int

	// Page is the most entries of a slot read at once [100], Ahead the most slots
	// [16]. Burst is about how many bytes are handed to a stream at once [64 KiB],
	// BatchBytes about how many go into a batch [1 MiB].
	Page       int
	Ahead      int
	Burst      int
	BatchBytes int

	// QueueMessages and QueueBytes bound what waits for a stream that is full,
	// QueueAge how long [1000, 1 MiB, 30 s].
	QueueMessages int
	QueueBytes    int
	QueueAge      time.Duration
	// Slow returns the policy of a literal channel [Recover].
	Slow func(channel string) Policy

	// Jitter returns a random number from 0 to n-1 [n/2].
	Jitter func(n int64) int64
	// Handed is a position up to which every entry of a slot that a reader has
	// an interest in has been given to its Deliver; see rule 5. It is called
	// within calls of readers, so it must take no lock that is held while
	// readers are called [0: nothing is known].
	Handed func(shard.Slot) uint64
}

// Policy is what becomes of the events of a channel that wait for a slow client.
type Policy uint8

// The policies.
const (
	// Recover ends the stream when the queue is full or too old. The client
	// goes on from the cursor it is told and has missed nothing.
	Recover Policy = iota
	// DropOldest drops the oldest events of such channels when the queue is
	// full, and those that are too old.
	DropOldest
	// Conflate lets an event take the place of those that wait on its channel,
	// at the end of the queue. History is not conflated. A full queue ends the
	// stream as with Recover; age does not.
	Conflate
)

// Shape is how a reader is answered.
type Shape uint8

// The shapes.
const (
	// Stream is an endless response or a WebSocket.
	Stream Shape = iota
	// Poll is one answer at once, with what is retained.
	Poll
	// LongPoll is one answer, with what is retained or else the next message.
	LongPoll
)

// Request is what a reader asks for. It has been checked.
type Request struct {
	Shape Shape
	// Channels are 1 to 64 literal channels and patterns, each once. The reader
	// keeps the slice.
	Channels []string
	// Since is where to start. The reader keeps it.
	Since shard.Since

	// Encoding is that of a stream's frames: SSE, Line, Part, Script or Text.
	Encoding event.Encoding
	// Padding is how many bytes of filler the open frame has.
	Padding int
	// Callback is the function that a frame document calls.
	Callback string

	// Wait is how long a long-poll without news is held.
	Wait time.Duration
	// Limit is the most messages of an answer; at least 1.
	Limit int
	// Published is the place of a message that the client has just published: a
	// poll includes it and what is in front of it, if it is of these channels.
	// None if Offset is 0.
	Published shard.Position
}

// Effects is what a call asks the shell to do. The caller owns it; Reset makes
// it ready for the next call. Calls only append.
type Effects struct {
	// Frames go to the stream, in this order.
	Frames []*frame.Frame
	// Events is how many of the frames, or of the answer, are messages, and
	// Newest when the newest of them was appended, if known.
	Events int
	Newest time.Time
	// More asks for Writable; see rule 4.
	More bool
	// Last ends the stream behind Frames, with Ended; it may be nil.
	Last *frame.Frame

	// Answer is the answer of a poll or long-poll, with Ended; else Body is nil.
	Answer Answer
	// Refused is why the request is not served, with Ended; else nil.
	Refused *Refusal

	// Interests are changes of what the reader must be given by Deliver, in order.
	Interests []Interest
	// Reads ask for history.
	Reads []Read
	// Dropped counts events that were dropped from the queue.
	Dropped Dropped
	// Ended says why the reader is over, else it is empty. Interests then has a
	// Leave for all it had. Further calls do nothing.
	Ended Reason
}

// Answer is the whole body of a poll or long-poll.
type Answer struct {
	// Body is a batch, a JSON object. It belongs to the receiver.
	Body []byte
	// Cursor is the one in the body.
	Cursor string
}

// Refusal says why a request is not served.
type Refusal struct {
	// Channel is the channel or pattern that could not be read.
	Channel string
	// Err is what Subscribed or Replayed was given.
	Err *bayeux.Error
}

// Reason says why a reader is over. Those of streams are on the wire.
type Reason string

// The reasons.
const (
	Draining Reason = "draining" // the edge leaves
	Slow     Reason = "slow"     // the client took too little
	Limit    Reason = "limit"    // there is no room for it
	Expired  Reason = "expired"  // its credentials did
	Denied   Reason = "denied"   // it may not read any more
	Failed   Reason = "error"    // history could not be read

	Reloaded Reason = "reloaded" // a frame document loads itself anew
	Answered Reason = "answered" // a poll or long-poll
	Refused  Reason = "refused"  // see Effects.Refused
	Gone     Reason = "gone"     // the peer vanished
)

// Dropped counts events that were dropped from the queue, by reason.
type Dropped struct {
	Oldest    int // the queue was full and the policy is DropOldest
	Conflated int // a newer one took its place; the policy is Conflate
	Age       int // it waited too long; the policy is DropOldest
	Resync    int // the client is told to load a snapshot instead
	Ended     int // the stream ended; they are read again from its cursor
}

// Interest is a channel or pattern the reader wants to be given, or no more.
type Interest struct {
	// Token is to be given to Subscribed; 0 with Leave.
	Token   uint64
	Channel string
	// Leave ends the interest, answered or not.
	Leave bool
}

// Read asks for history: a page of each of some slots.
type Read struct {
	// Token is to be given to Replayed.
	Token uint64
	// Slots are at least one. The reader keeps them; they must not change.
	Slots []SlotRead
}

// SlotRead asks for history of one slot.
type SlotRead struct {
	Slot shard.Slot
	// Channels are those of the reader that may be in the slot; shared.
	Channels []string
	// Since asks for everything after it; with Earliest, for all that is
	// retained, and nothing is lost then.
	Since    uint64
	Earliest bool
	// Through is where the page should lead at least, unless the limit ends it:
	// a ring that does not reach it must not answer.
	Through uint64
	// Limit is the most entries, at least 1.
	Limit int
}

// Page is a piece of a slot's history.
type Page struct {
	// Events are all that is committed in (since, Through] of the channels that
	// have lost nothing, in order, each once.
	Events []*event.Event
	// Through is where to go on. With Limit events it is the last one's offset.
	Through uint64
	// Lost are those of the channels, as they were asked for, of which a part
	// of (since, Through] is gone.
	Lost []string
}

// Defaults returns a copy in which fields that are zero have their default.
func (c Config) Defaults() *Config {
	orDefault(&c.Heartbeat, 25*time.Second)
	orDefault(&c.CursorEvery, 10*time.Second)
	orDefault(&c.Gather, 250*time.Millisecond)
	orDefault(&c.Retry, 2*time.Second)
	orDefault(&c.FrameMaxBytes, 1<<20)
	orDefault(&c.Page, 100)
	orDefault(&c.Ahead, 16)
	orDefault(&c.Burst, 64<<10)
	orDefault(&c.BatchBytes, 1<<20)
	orDefault(&c.QueueMessages, 1000)
	orDefault(&c.QueueBytes, 1<<20)
	orDefault(&c.QueueAge, 30*time.Second)
	if c.Slow == nil {
		c.Slow = func(string) Policy { return Recover }
	}
	if c.Jitter == nil {
		c.Jitter = func(n int64) int64 { return n / 2 }
	}
	if c.Handed == nil {
		c.Handed = func(shard.Slot) uint64 { return 0 }
	}
	return &c
}

func orDefault[T int | time.Duration](v *T, fallback T) {
	if *v <= 0 {
		*v = fallback
	}
}

// Reset empties the effects and keeps their memory.
func (e *Effects) Reset() {
	clear(e.Frames)
	clear(e.Interests)
	clear(e.Reads)
	*e = Effects{Frames: e.Frames[:0], Interests: e.Interests[:0], Reads: e.Reads[:0]}
}
