// Package disk keeps the logs of a broker's slots, so that a broker that starts
// again is the member it was. Logs are served from memory; what is kept is read
// only by [Store.Load]. All slots share one database (Pebble) and one writer.
//
//  1. A slot is kept as one checkpoint, the pieces of a [slot.Slot.Snapshot], and
//     the entries after it, with its base, its term, and a commit mark. Once the
//     entries outgrow the checkpoint, and 4 MiB, there is a new one in its place;
//     so what is written of a log is at most about twice its bytes, before the
//     database makes files of them.
//  2. A [Journal] is told of changes under its log's lock, and only queues them.
//     The writer takes all that has queued, of all slots, writes it as one atomic
//     batch, syncs once, and tells each slot how far it is kept (Synced). A slow
//     disk therefore holds no lock, and delays acknowledgements only.
//  3. Changes of a slot are written in their order, those of one batch all or
//     not at all. So what a crash leaves of a slot is what it was after some
//     change, the last one that Synced told of or a later one.
//  4. Held is what Synced told of, less what was cut since; 0 until the log's
//     base and term are kept. A member acknowledges what it holds, so a log-id
//     never holds less than it acknowledged (invariant R3 of package replica),
//     and never forgets a term in which it did, or led (R4, R5).
//  5. What waits is bounded: beyond QueueBytes journals are Full, and their logs
//     refuse what publishers send. What a primary sends to a backup is bounded by
//     what the backup has not acknowledged.
//  6. With Interval, Synced tells of what was written and not yet synced. What was
//     acknowledged in the last SyncEvery, and while a sync took, may be lost with
//     the process. So after a stop that was not clean the log-id is a new one.
//  7. A directory is one process's at a time, one cluster's, and of one format.
//  8. After an error of the disk nothing more is written, and Run ends: of a sync
//     that failed nothing is known, and a second one proves nothing. Nothing that
//     waited for it was acknowledged, so the broker may start again as the member
//     it was, once there is room.
//
// # What must come back, and what need not
//
// The machine of package replica is made anew over what was loaded ([replica.New]).
// Of its state it needs the log with the terms of its entries, the base, and the
// highest term adopted: from that it knows in which terms it may have led, and
// claims a new one before it leads (born). Rows are read from etcd again, rounds
// begin with new streams. The commit mark is a lower bound: it is kept with the
// change after it. A member that leads commits its whole log anew, and one that
// follows is told; so a lower mark costs nothing but that what is above it can
// not be read for a moment. Nothing kept is above the mark that is not also a
// part of the log, since a mark is kept with the end it belongs to.
//
// A cut that was not synced may come back undone. The entries it removed were
// not in the primary's log; the next round removes them again. A log that was
// dropped may come back too, which is as if it had never been dropped: what was
// acknowledged of it is there. A log that was restored from a snapshot replaces
// the old one, in one batch, when all pieces are written; until then the member
// holds the old one, of which it acknowledged no more than is there.
//
// # Damage
//
// Every block, record and piece has a checksum, and Load checks that a slot ends
// where its state says. Nothing that fails is used: the directory is refused
// ([ErrDamaged]), and the operator is told to move it away. The broker is then a
// new member, empty, and is brought up to date by the others. It does not do so
// by itself, and does not go on with the last good entries under the same log-id:
// it cannot know whether it is the only copy, and if it is, entries that follow
// would be numbered as those that are lost, which readers have seen: they would
// skip them in silence (R10). An error that names the directory is better than
// that, and better than to delete what a file system check may still bring back.
//
// There is one exception. The end of the newest write-ahead log may be torn: that
// is what a crash leaves of a batch that was not synced, and acknowledged to
// nobody. The database tells it from damage further up, since later records say
// how far was synced; a loss of exactly the last synced records, while the file
// looks torn, it cannot see. After a clean stop nothing may be torn: the mark that
// it leaves says how many batches were written, and fewer are damage.
//
// For the same reasons a data directory must never be replaced by an older copy of
// itself: it would hold less than its log-id acknowledged.
package disk
