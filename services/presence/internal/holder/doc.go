// Package holder keeps the records of sessions that a presence process holds:
// where each session is, in which generation, and what it subscribes to, from
// what edges tell. It is a pure state machine: time and the directory come in,
// and nothing in it waits. Not safe for concurrent use.
//
// What is believed (CORRECTNESS rules 8, 17, 18 and 19):
//
//  1. Records are kept of the shards that are held, and forgotten when that ends,
//     or has ended and begun again meanwhile. Only
//     edges that the directory lists are heard, each through one Feed; a newer
//     one silences the older.
//  2. A session is present at an edge in a generation if that is higher than what
//     is known, or if it is the same and the edge is its home, and not lost.
//     What is refused is answered with what stands (Superseded).
//  3. A claim makes an edge the home, in a generation higher than all before. What
//     is known of the last home that was installed, its vector as it was then
//     too, stays until the claimer has reported the session. A claim that is not
//     reported within 30 s is lost.
//  4. When the directory does not list an edge any more its sessions are lost: they
//     can be claimed for as long as each asks for, at least for a grace, and are
//     gone then. The end of a feed makes nothing lost; sessions that the next one
//     has not named when it has synced their shard are gone.
//  5. Who is gone does not come back in the same or an earlier generation, for ten
//     minutes, as far as the memory for that goes (S9).
//  6. Locate and Claim are answered by the first holder only, and not before
//     every edge of the directory has synced the shard since it is held. So a
//     session that is unknown to it is unknown to all (S8).
//  7. What a feed said of a shard before it was held is asked for again (Wanted):
//     then begin and sync the shard once more. So is one of which the edge has
//     something else, by count and hash (Check).
//
// What is told:
//
//  8. Members, counts, users and watches are of the sessions whose shards this
//     process is the first holder of. A session that moves, or is lost, neither
//     leaves nor joins. It leaves with the generation that ends (S12). From a channel
//     that waits less for those who are lost (Config.Leave) it leaves before, and
//     joins again when a home has reported it.
//  9. A Watch hears of each member it has been told of when it leaves, and of
//     every other one when it joins or is listed, each once, in order; or it is
//     told that it fell behind, or that the shards changed.
//  10. Ended and Left are told by both holders of a shard, which hear the same,
//     but not at the same time, nor always in the same words: whose stream from
//     an edge broke hears no reason.
package holder
