package replica

import (
	"time"

	"github.com/comet-push/comet/services/broker/internal/history"
)

// Message is what a replica of a slot tells another. Whoever carries it adds
// the slot, and names the sender as name@log-id. Messages may be lost, repeated
// or overtake each other as far as the log is concerned; only freshness
// (R14) relies on a stream that delivers in order and loses nothing but its end.
type Message interface{ message() }

// Lead is the primary's first message of a round: I lead, what do you hold? A
// round is one attempt to bring one member up to date, begun with every new
// stream; answers name it, so that those of an earlier one do not count.
type Lead struct {
	Term    uint64
	Version int64 // of the newest row heard
	Base    uint64
	Round   uint64
}

// State answers Lead: where the terms of the member's log end.
type State struct {
	Term    uint64
	Version int64
	Round   uint64
	End     uint64
	Terms   []TermEnd
}

// Append carries the entries after Prev, and the commit mark. Join, on the
// first of a round: the logs agree up to Prev, cut what comes after it.
type Append struct {
	Term    uint64
	Round   uint64
	Join    bool
	Prev    uint64
	Entries []*history.Entry
	Commit  uint64
}

// Piece carries a piece of a snapshot of the log up to Offset.
type Piece struct {
	Term   uint64
	Round  uint64
	Offset uint64
	Seq    int
	Data   []byte
	Last   bool
}

// Ack says that the member holds the primary's log up to End, and has taken so
// many pieces of the round's snapshot.
type Ack struct {
	Term   uint64
	Round  uint64
	End    uint64
	Pieces int
}

// Refuse says that a newer term was heard of or, in the same term, which entry
// must come next.
type Refuse struct {
	Term    uint64
	Version int64
	Round   uint64
	Need    uint64 // 0: it is the term
}

// Leave asks the primary whether the sender still counts, since no row it
// knows of names it.
type Leave struct {
	Term    uint64
	Version int64
}

// Release answers Leave: no acknowledgement of a round up to this one counts.
type Release struct {
	Term    uint64
	Version int64
	Round   uint64
}

// Watch asks the primary, for followers of a copy that has joined the round, to
// tell of commits at once for a while, and for Fresh.
type Watch struct {
	Term   uint64
	Round  uint64
	Number uint64 // of the question
}

// Fresh answers Watch: up to an age before this was said nobody had committed
// anything beyond Commit.
type Fresh struct {
	Term   uint64
	Round  uint64
	Number uint64
	Commit uint64
	Age    time.Duration
}

func (*Lead) message()    {}
func (*State) message()   {}
func (*Append) message()  {}
func (*Piece) message()   {}
func (*Ack) message()     {}
func (*Refuse) message()  {}
func (*Leave) message()   {}
func (*Release) message() {}
func (*Watch) message()   {}
func (*Fresh) message()   {}
