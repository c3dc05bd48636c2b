// Package history is what one slot retains of its committed log, what it can
// still say about what it no longer retains, and the end of the log, which other
// copies catch up from.
//
//  1. A query is answered with all that is committed in (since, through], or
//     with Lost: never with a part, and never Lost while all of it is retained.
//     Of several names each is answered so, and those that are Lost are Gone.
//  2. The prev of a channel's next entry is at least the offset of the entry
//     before it, and equal to it while the channel is remembered.
//  3. A channel is remembered while it has retained entries; after that as a
//     tombstone, for PositionTTL after its last entry or until there are too
//     many. Only dropping a tombstone raises the floor, to the last offset of
//     the channel that is forgotten; the floor begins at Base.
//  4. Complete on a channel since N means: N ≥ the last entry of it that was
//     dropped, or the prev of its first one if none was; or ≥ the tombstone's
//     offset; or ≥ the floor for a channel that is not remembered. It holds for
//     a pattern if it holds for every channel that matches.
//  5. Channels whose class retains nothing are at-most-once: never Lost, their
//     entries have prev 0, and they leave neither tombstones nor floor. (A
//     pattern asked about with a position below the floor is Lost even if only
//     such channels match it: their names are not remembered.)
//  6. A History made by a [Restorer] of a [Snapshot] answers every query as the
//     one it was taken of did then.
//  7. Log has all entries after Start, retained or not: the last LogBytes of
//     them, or more while there is a Pin.
//  8. An entry is copied once, by Add, into a chunk without pointers, where
//     retention and Log share it; its bytes never change, and reads hand out
//     slices of them. Beside its bytes and those of its channel's name it takes
//     some 55 bytes. Of the memory that chunks of a class take no more than
//     about three quarters is for what is gone (rule 25).
//
// A History has no lock and no clock: its slot's lock guards it, and time comes
// in. Entries are immutable and may be kept by callers. Unlike the 16-byte
// tombstones of CORRECTNESS rule 5 these hold the channel's name: with a hash
// alone one channel of short retention would make every pattern of the slot
// look incomplete.
package history
