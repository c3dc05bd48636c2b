// Package upstream is how a node uses brokers: it publishes to the owners of
// slots, follows slots for its own subscribers, and reads history. Edges use it
// for browsers, broker processes for the backends that subscribe through them.
//
// Publisher:
//
//  1. Publishes of one slot reach its owner in the order of Publish calls, also
//     across a move: after a failure everything from the first unanswered one
//     is sent again, keyed, before anything newer (CORRECTNESS rule 29). What a
//     broker refused before it took a newer one of its slot is not sent late,
//     but answered UNAVAILABLE. A word from a log that is known to be lost
//     counts for nothing.
//  2. Every publish is answered once: committed, refused, or UNAVAILABLE after
//     its timeout, when it may or may not have been appended.
//  3. What waits per slot is bounded; beyond it publishes are refused BUSY.
//
// Follower:
//
//  4. Entries of a slot reach the sink in offset order, each once per log,
//     whatever streams, owners or credits do meanwhile.
//  5. For every joined channel, all that is committed after Joined's position
//     reaches the sink, or a resync names the channel.
//  6. Nothing is queued for a sink without bound: a slow sink makes brokers
//     stop pushing, and the follower pulls when it can.
//  7. Silence of a broker is counted in heartbeats that the follower listened
//     to, so a slow sink is not mistaken for a dead broker.
//
// Reader:
//
//  8. Reads are answered by the primary, and never by less than the caller
//     knows to be committed (CORRECTNESS rule 11).
package upstream

import (
	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	"github.com/comet-push/comet/internal/shard"
)

// Sink takes what a Follower receives. Calls for one slot never overlap and
// come in order; calls for different slots may overlap. While a sink blocks
// nothing else is handed over, and brokers stop pushing when credit has run out.
type Sink interface {
	// Entries hands over committed entries that match a joined channel.
	Entries(slot shard.Slot, entries []*brokerv1.Entry)
	// Resync says that entries of these channels and patterns are lost that had
	// not been handed over: those up to the position, and those after it that
	// were no longer retained by now. Everything else after it will be handed
	// over. Channels may be named whose Joined is still to come.
	Resync(at shard.Position, channels []string)
	// Through says that nothing up to the position is still to come, and that
	// all that a Resync of the slot was about lies before it. It comes when the
	// follower has caught up, with every freshness mark that moved, and about
	// once a second when idle; not while it lags.
	Through(at shard.Position)
	// Joined answers Join: what is committed after the positions will be
	// handed over, and is not yet. For a literal channel there is one position,
	// for a pattern one for each slot. Entries up to a position may have come
	// before, and may still come.
	Joined(channel string, from []shard.Position)
}
