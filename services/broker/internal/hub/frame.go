package hub

import (
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
)

// Item is one piece of news for a follower: a committed entry, or a frame.
type Item struct {
	Slot  shard.Slot     // of the entry
	Entry *history.Entry // nil: Frame is set
	Frame Frame
}

// Frame is one of Opened, Joined, Lag, Resumed, Resync, Moved and Marks.
type Frame interface{ frame() }

// Opened answers Open.
type Opened struct {
	Slot                shard.Slot
	Term, Base, Through uint64
	// Reset: the given position is not of this log; pulling starts at Base.
	Reset bool
}

// Joined answers Join: what is committed after the positions will come.
type Joined struct {
	ID        uint64
	Positions []shard.Position
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

// Resync says that entries of these interests after Through are gone. What is
// retained after Through is sent.
type Resync struct {
	Slot      shard.Slot
	Interests []uint64
	Through   uint64
}

// Moved says that the slot is not open here; Version is that of the row this
// broker knows.
type Moved struct {
	Slot    shard.Slot
	Version int64
}

// Marks say how far followers are. They say nothing of slots that lag.
type Marks struct {
	// Moved are the marks of the pushed slots whose commit moved since the last
	// ones.
	Moved []Mark
	// Stale are pushed slots of which nothing is proved: another broker may
	// have committed entries.
	Stale []shard.Slot
}

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
