package replica

import (
	"errors"

	"github.com/comet-push/comet/internal/shard"
)

// Effects are what the shell is to do after an event, in the order of the
// fields, before the next event of the slot. The shell empties them by Reset
// and may use them again.
type Effects struct {
	// Stop: this member does not lead, or relay, any more. Serve nothing, and
	// answer the publishes that wait for their commit as moved.
	Stop bool
	// Commit is up to where to commit the log, 0: as far as it is. Who serves,
	// or relays, fans out what that passes, a primary answers its publishers, at
	// once.
	Commit uint64
	// Few: what Commit passes may be held by fewer members than MinInSync. The
	// publishes that wait for it are answered as moved: sent again they find it,
	// once enough are in sync.
	Few bool
	// Serve: reads and followers are served from now on. (Publishes are
	// accepted as Admit says, even before.)
	Serve bool
	// Relay: followers, but no reads, are served from now on, though another
	// member leads.
	Relay bool
	// Sends are messages to members; one whose stream is down misses them.
	Sends []Send
	// Probe: ask members at once what Heard tells of; until it does AsOf proves
	// nothing. It may be left out: they are asked now and then anyway.
	Probe bool
	// Write is a row to write by compare-and-swap; exactly one call of Written
	// says what became of it. There is at most one at a time.
	Write *Write
	// Move: the slot is to be handed over, and serves on until Turn says that it
	// is its turn; exactly one call of Turn does.
	Move bool
	// Read: read the row of the slot anew, not from a cache, until that works,
	// and tell it by Row even if it is not new.
	Read bool
	// Alarms are what must not happen.
	Alarms []Alarm
}

// Reset empties the effects.
func (e *Effects) Reset() {
	clear(e.Sends)
	*e = Effects{Sends: e.Sends[:0], Alarms: e.Alarms[:0]}
}

func (e *Effects) send(to string, m Message) { e.Sends = append(e.Sends, Send{to, m}) }

func (e *Effects) alarm(what Trouble, member string, err error) {
	e.Alarms = append(e.Alarms, Alarm{what, member, err})
}

// Send is a message to a member.
type Send struct {
	To      string
	Message Message
}

// Write is one compare-and-swap of the slot's row.
type Write struct {
	// Row is what to write; its Version is the one it replaces. Where Primary
	// is another member than before the shell sets Addr.
	Row shard.Row
	// Present are members that must be announced, with the same log-id, for the
	// write to apply.
	Present []string
	// Urgent: publishes wait for it.
	Urgent bool
}

// Outcome says what became of a Write.
type Outcome int

// The outcomes.
const (
	// Unknown: it may have been applied, or may yet be.
	Unknown Outcome = iota
	// Applied with the version given.
	Applied
	// Refused: a condition did not hold, so it was not applied and never will.
	Refused
)

// Trouble is what an Alarm is about.
type Trouble string

// What there are alarms for. None of them loses anything by itself: the replica
// refuses to go on where it would.
const (
	// Diverged: the member's committed entries are not all in its primary's
	// log.
	Diverged Trouble = "diverged"
	// Rivals: two members lead in one term.
	Rivals Trouble = "rivals"
	// Unfit: a row names this member primary but its log cannot be the one.
	Unfit Trouble = "unfit"
	// Damaged: the log refused what came from its primary.
	Damaged Trouble = "damaged"
)

// Alarm is something that must not happen.
type Alarm struct {
	What   Trouble
	Member string // the other one
	Err    error  // of the log, or nil
}

// ErrFew is the answer to publishes that Few is about.
var ErrFew = errors.New("too few copies hold it; sent again it is acknowledged when more do")

// The refusals of Admit.
var (
	// ErrMoved: this member does not lead the slot.
	ErrMoved = errors.New("this broker does not own the slot")
	// ErrMoving: the slot is being handed over. Wait for its next row, or until
	// Admit says otherwise.
	ErrMoving = errors.New("the slot is moving to another broker")
	// ErrUnderReplicated: too few members are in sync.
	ErrUnderReplicated = errors.New("too few copies are in sync")
	// ErrIsolated: the only member in sync has not reached the directory for
	// too long.
	ErrIsolated = errors.New("the only copy has lost touch with the cluster")
)
