package hub

import (
	"errors"

	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
)

// The ways a follower breaks the protocol; its stream should be ended.
var (
	ErrInterestReused   = errors.New("interest number in use")
	ErrInterestInvalid  = errors.New("interest is not a channel or pattern")
	ErrTooManyInterests = errors.New("too many interests")
	ErrSlotInvalid      = errors.New("no such slot")
)

// Log is what the hub reads of a slot; *slot.Slot is one. All of it is read
// under the slot's lock.
type Log interface {
	Term() uint64
	Base() uint64
	End() uint64
	Committed() uint64
	History() *history.History
}

// Start says where a follower begins in a slot.
type Start struct {
	// Given: begin after Since, by pulling. Otherwise the slot is pushed from
	// its end.
	Given bool
	Since uint64
	// Earliest: with Given, everything retained after Since, without a resync.
	Earliest bool
}

// Item is one piece of news for a follower: a committed entry, or a Frame.
type Item struct {
	Slot  shard.Slot
	Entry *history.Entry // nil: Frame is set
	Frame Frame
}

// Frame is one of Opened, Joined, Lag, Resumed, Resync, Moved and Marks.
type Frame interface{ frame() }

// Opened answers Open.
type Opened struct {
	Slot                shard.Slot
	Term, Base, Through uint64
	Reset               bool
}

// Joined answers Join: what is committed after the positions will come.
type Joined struct {
	ID        uint64
	Positions []Position
}

// Position is an offset in a slot.
type Position struct {
	Slot   shard.Slot
	Offset uint64
}

// Lag says that what comes after Through waits for a Pull.
type Lag struct {
	Slot    shard.Slot
	Through uint64
}

// Resumed says that what comes after Through is pushed.
type Resumed struct {
	Slot    shard.Slot
	Through uint64
}

// Resync says that entries of these interests are gone that the follower has
// not seen. What is retained after Through is sent, for all interests.
type Resync struct {
	Slot      shard.Slot
	Interests []uint64
	Through   uint64
}

// Moved says that the slot is not owned here, by the row of this version. The
// stream no longer follows it and has no literal interests in it.
type Moved struct {
	Slot    shard.Slot
	Version int64
}

// Marks are the freshness marks that moved since the last ones.
type Marks []Mark

// Mark says that all committed entries up to Commit precede it.
type Mark struct {
	Slot         shard.Slot
	Term, Commit uint64
	Version      int64
}

func (Opened) frame()  {}
func (Joined) frame()  {}
func (Lag) frame()     {}
func (Resumed) frame() {}
func (Resync) frame()  {}
func (Moved) frame()   {}
func (Marks) frame()   {}
