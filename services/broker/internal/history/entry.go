package history

import "time"

// Entry is one message in a slot's log. It never changes once it is appended,
// so the log's tail, fan-out and readers share pointers to it.
type Entry struct {
	// Channel is a literal channel.
	Channel string
	// Offset is its place in the slot: dense, never reused.
	Offset uint64
	// Prev is the offset of the entry before it in its channel, or a higher one
	// where that is not remembered; 0 in channels without history, where a
	// gap means nothing.
	Prev uint64
	// Term is the term it was appended in.
	Term uint64
	// Time is when it was appended, in milliseconds since 1970 by the
	// primary's clock; it never decreases in a slot.
	Time int64
	// Data is one JSON value, Ext a JSON object or empty, Members further
	// members as "name":value pairs joined by commas.
	Data, Ext, Members []byte
	// Session and ID are who published it, and its message id there; only on
	// /service channels.
	Session, ID string
	// Key is the idempotency key.
	Key string

	encoding []byte // nil: not sealed
}

// Payload is the number of bytes the publisher sent.
func (e *Entry) Payload() int { return len(e.Data) + len(e.Ext) + len(e.Members) }

// Cost is what the entry takes of a follower's byte credit.
func (e *Entry) Cost() int { return e.Payload() + len(e.Channel) + 64 }

// Class says how much of a channel is retained. The zero Class retains nothing:
// its channels are at-most-once.
type Class struct {
	// Messages, Bytes (as encoded: the payload and some 50 more for each message)
	// and Age bound what is retained of one channel; Bytes and Age of 0 do not.
	Messages int
	Bytes    int
	Age      time.Duration
	// MessageBytes is the largest payload of one message; 0 is no bound.
	MessageBytes int
}

// Retains reports whether channels of the class have a history.
func (c Class) Retains() bool { return c.Messages > 0 }

// Query names a piece of one channel's history, or of several channels'.
type Query struct {
	// Channel is a literal channel.
	Channel string
	// Names are literal channels and patterns, if Channel is not given.
	Names []string
	// Since is the offset after which to read; with Earliest it is ignored and
	// all that is retained is read.
	Since    uint64
	Earliest bool
	// Limit is the most entries to return, at least 1. (Package slot answers 0
	// with the end of the log.)
	Limit int
	// Reverse reads the newest first; Since stays the older end. Not with Names.
	Reverse bool
}

// Page answers a Query.
type Page struct {
	// Entries are all that is committed in (Since, Through]; with Reverse the
	// newest Limit of these, newest first.
	Entries []*Entry
	// Through is where to read on.
	Through uint64
	// Lost: a part of what was asked for is gone. There are no entries; what
	// comes after Through is complete.
	Lost bool
	// Gone are those of Names of which a part is gone. Entries are what the
	// others match; what comes after Through is complete, or Gone again.
	Gone []string
}

// Info is what is known of a channel.
type Info struct {
	Channel string
	// Last is the offset of its last entry, 0 if not remembered.
	Last uint64
	// Messages is how many entries are retained.
	Messages int
}
