// Package upstream is how a node uses brokers: it publishes to the owners of
// slots, follows slots for its own subscribers, and reads history. Edges use it
// for browsers, broker processes for the backends that subscribe through them.
//
// Publisher:
//
//  1. Publishes of one slot reach its owner in the order of Publish calls, also
//     across a move: after a failure everything from the first unanswered one
//     is sent again, keyed, before anything newer (CORRECTNESS rule 29).
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
package upstream

import (
	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	"github.com/comet-push/comet/internal/shard"
)

// Position is an offset in a slot.
type Position struct {
	Slot   shard.Slot
	Offset uint64
}

// Sink takes what a Follower receives. Calls for one slot never overlap and
// come in order; calls for different slots may overlap. A sink must not block
// for long, and must not call the Follower from within Joined.
type Sink interface {
	// Entries hands over committed entries that match a joined channel.
	Entries(slot shard.Slot, entries []*brokerv1.Entry)
	// Resync says that entries of these joined channels and patterns up to the
	// position are lost to this follower; what comes after it will be handed over.
	Resync(at Position, channels []string)
	// Through says that nothing up to the position is still to come. It comes
	// with every freshness mark that moved, and about once a second when idle.
	Through(at Position)
	// Joined answers Join: what is committed after the positions will be
	// handed over. For a literal channel there is one position, for a pattern
	// one for each slot.
	Joined(channel string, from []Position)
}
