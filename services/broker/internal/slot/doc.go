// Package slot is one slot's log at one of its copies: it appends, remembers
// keys, and passes what is committed on to history. At the primary entries are
// made by Append, at a backup they come as the primary made them, by Replicate.
//
//  1. Offsets are dense from Base+1 and below 2^53; terms and times never
//     decrease.
//  2. Only what is at or below the commit mark is read, fanned out, or in
//     history. The mark never goes back (invariants R9, R10 of package replica).
//  3. A position is valid iff Base ≤ position ≤ End. One above the commit mark
//     waits for it (ErrAhead) and is never lost (CORRECTNESS rule 11).
//  4. Within KeyWindow, or the last Keys keys if that is less, a key lands at
//     most once in a channel; the same key with other bytes is refused. The
//     table is a function of the log, its uncommitted tail included, and is
//     aged by the times of entries; it is the same in every copy.
//  5. A publication and its duplicates are acknowledged by the same rule: once
//     the commit mark has reached Result.Offset (rule 13).
//  6. A refused publication or entry leaves no trace.
//  7. Nothing at or below the commit mark is ever removed. A log whose tail was
//     cut is the log that never had what was cut: the same keys, terms, heads
//     of channels, and time (rules 1 and 13).
//  8. After and Terms tell of the log's end what history need not retain: the
//     last committed entries, up to LogBytes, and all that are not
//     (rule 25).
//  9. A log restored from a snapshot answers every read, knows every key and
//     has the terms and floors that the log had at the snapshot's offset
//     (rule 25). A snapshot that is damaged or not whole changes nothing.
//
// A Slot has no lock and no clock. The caller's lock of the slot guards it, its
// history and its fan-out in package hub together.
package slot
