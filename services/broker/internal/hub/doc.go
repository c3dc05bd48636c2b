// Package hub fans committed entries out to followers, within their credit.
//
// In every slot that a follower has open it is either pushed to, or pulls from
// where it is. An entry that matches is appended to the follower's items once,
// however many of its interests match. When credit has run out the slot turns
// from pushed to pulled; nothing is queued for it, because history holds it.
//
//  1. A follower gets every committed entry of a slot that matches an interest
//     and comes after its Joined position, in offset order and once, or a
//     Resync that names the interest. Entries between a lagging slot's position
//     and a later Joined position may come, too.
//  2. Joined and Opened precede all entries after their positions. Marks prove
//     of every slot that is pushed and not stale: all entries up to its last
//     mark precede it, and no others are committed, by this broker or another
//     (CORRECTNESS rule 9).
//  3. A pull checks what was lost, sends what is retained, and turns the slot
//     back to pushed in one step under the slot's lock: no entry falls between.
//     A long pull takes several steps; each checks again.
//  4. What a follower takes of memory is its credit, and O(slots + interests):
//     never more with the number of messages. Credit may be overdrawn by one
//     entry, so that an entry larger than the window still passes.
//  5. A copy of a slot that another member leads is followed like the slot
//     itself, by those who ask for one in its term.
//  6. After Moved the stream has neither the slot nor literal interests in it;
//     patterns stay.
//
// # Locks
//
// The lock of a slot is the caller's, the one that also guards its log; slots
// can be published to in parallel. Hub.Add, Hub.Remove, Slot.Publish and
// Slot.List want it held; methods of Follower take it, one at a time, and must
// be called without any. Under it, as leaves, come the lock of the patterns and those of the
// followers. All methods of one Follower belong to one goroutine, that of its
// stream, except Ready.
package hub
