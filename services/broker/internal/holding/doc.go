// Package holding decides which presence processes hold which presence shard.
//
// Of each shard two hold the records of its sessions: the first answers for it,
// the second is told the same. Whoever is new to a shard has no records until
// edges have sent theirs; those of edges that died nobody sends again. So one
// of two who are there always stays.
//
//  1. First and Second are announced when they are chosen, and two different
//     processes, in two zones if there are; with one process there is no Second.
//     Processes without a zone are in one of their own. While none is announced
//     the rows stay as they are.
//  2. Epoch rises exactly when First changes. That of a shard's first row is the
//     time in seconds: it rises also if the store lost its data.
//  3. A holder is gone when it is not announced; while View.Cautious only when
//     another id is announced under its name. The write that removes it applies
//     only if it is still not announced. Second becomes First in its place; a new
//     First is chosen only when both are gone.
//  4. A holder that drains is replaced: as Second at once, as First by Second
//     once that one has been there for Settle. Where there is nobody else it
//     stays. If all drain, none does.
//  5. A change of a row whose holders are there and stay takes one of them: Second
//     is replaced, or both change places; the latter, which makes First who may
//     not know all records, only once Second has been there for Rest.
//  6. Rows are changed for balance (other zones first, then holdings, then
//     firsts) only while nothing else is to be done and nobody may be late, at
//     most Burst per Every. Each chain of moves is a shortest one that takes one
//     from a process with at least two more and gives it to one with fewer.
//  7. So when views stop changing, following the plans comes to an end: the
//     numbers of Firsts and of holdings per process then differ by one at most,
//     but where zones forbid it, and further plans are empty.
//  8. Where zones are even, a process that comes causes as many changes as it is
//     to hold shards and to be first of some, one that goes as many as it held
//     shards, and at most a sixteenth more. What was the first place of one that
//     goes is spread over all others.
//
// The planner is pure: views and time come in. What it remembers (since when a
// Second has been there) a new leader may do without: it waits a little longer.
package holding
