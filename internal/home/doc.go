// Package home says which edge is the home of a session, and how a session
// moves from one to another (CORRECTNESS rules 6, 7, 17 and 19). Both ends of a
// move are here, and the generations that decide races. It is pure: time comes
// in, nothing waits, nothing is sent. Not safe for concurrent use.
//
//  1. A Generation is one home of one session. Only a claim at presence makes a
//     new one, and it is higher than every earlier one.
//  2. A Move finds a session for an edge that is asked for it: it relays to the
//     session's home as long as there is one that answers, and takes the session
//     over only when there is none, or when it is told to. It claims before it
//     takes, and takes from the last home that was installed; only if that one
//     does not answer, or has nothing, it goes on with what presence knows.
//  3. A Seat is what an edge knows of its own part in a session. Once it has
//     heard of a higher generation the edge answers nobody for the session, but
//     keeps its copy for a while and gives it to whoever claimed, as often as
//     asked (S3, S7).
//  4. A session whose lease at presence ended is not announced again: it is
//     claimed, as if by another edge.
//  5. Numbers of answers of two homes never meet: unless the second went on
//     exactly where the first stopped, Batch leaves room for 1000 answers of
//     every home that was in between, or may have been (S5).
//  6. A session moves to a front that its client keeps coming through, but not
//     more often than once a minute.
package home

import (
	"cmp"
	"fmt"
	"math"
	"time"
)

// Generation counts the homes of a session. The zero Generation is before all.
type Generation struct {
	// Epoch is that of the session's presence shard.
	Epoch uint64
	// Count rises with every claim, also when the epoch does.
	Count uint64
}

// First is the generation of the home that a handshake made, in the epoch that
// it knows of.
func First(epoch uint64) Generation { return Generation{Epoch: epoch, Count: 1} }

// Next is the generation after this one, made in an epoch not below its own.
func (g Generation) Next(epoch uint64) Generation {
	return Generation{Epoch: epoch, Count: g.Count + 1}
}

// Compare is negative if g is before other, positive if it is after it.
func (g Generation) Compare(other Generation) int {
	return cmp.Or(cmp.Compare(g.Epoch, other.Epoch), cmp.Compare(g.Count, other.Count))
}

// After reports whether g is later than other.
func (g Generation) After(other Generation) bool { return g.Compare(other) > 0 }

func (g Generation) String() string { return fmt.Sprintf("%d.%d", g.Epoch, g.Count) }

const (
	// room is how many answers a home may have given that nobody has heard of.
	room = 1000
	// split is how many claims two processes may both have allowed while each
	// took itself for the first holder, in two epochs with the same counts.
	split = 16
	// epochs bounds what many epochs add: a session that began before its edge
	// knew one begins at 0.
	epochs = 1000
)

// Batch is the number behind which a home of generation to begins, given the
// last number that is known of the home of generation from. If exact, nothing
// can have been numbered since, by anybody.
func Batch(last uint32, from, to Generation, exact bool) uint32 {
	if exact {
		return last
	}
	homes := to.Count - min(from.Count, to.Count)
	homes += split * min(to.Epoch-min(from.Epoch, to.Epoch), epochs)
	return uint32(min(uint64(last)+room*max(homes, 1), math.MaxInt32-room))
}

// Adoptable is how long a session must stay adoptable after its home, or the
// front that its client comes through, was lost: the client may have begun to
// wait just before, notices nothing until its request is overdue, and may then
// take as long to come back as clients may.
func Adoptable(timeout, interval, maxInterval time.Duration) time.Duration {
	const overdue = 10 * time.Second // after which stock clients give up a request
	return interval + timeout + overdue + maxInterval
}
