// Package replica is how the copies of one slot's log agree: a pure machine,
// one [Replica] per slot and member. Events go in, [Effects] come out; it knows
// no network, no store, no goroutine, and no clock but the times it is told.
//
// # The flow
//
// The row of a slot says who leads in which term and who is in sync. It is in
// etcd and changes only by compare-and-swap on its version; the controller
// begins terms, the primary of a term changes the set within it.
//
//	row         primary p, term t       p adopts t, and so does who hears of it
//	p → b  Lead  t, round               I lead, what do you hold?
//	b → p  State t, round, ends of terms
//	p → b  Append t, round, join at n   our logs agree up to n, cut the rest
//	   or  Piece by Piece               of a snapshot, if p's log begins after n
//	b → p  Ack  t, round, end           I hold your log up to end
//	p      commits what all hold that it waits for, serves, fans out
//	p → etcd  add b if still announced  from now on p waits for b
//	p → b  Append t, entries, commit    and so on
//	p → etcd  t+1, primary b            to hand over, once all is committed
//
// and, if followers are served at b,
//
//	b → p  Watch t, round, number   they wait for commits
//	p → b  Append t, commit         as soon as it moves
//	p → b  Fresh t, round, number, commit, age
//
// A round is begun with every new stream, and again if nothing comes of it.
// Who hears of a higher term than it leads or follows in stops doing so, and
// says Refuse to those of the lower one. Members are name@log-id throughout: a
// process that lost its log is another member.
//
// # The invariants, and why they hold here
//
// The set is the one in etcd, InSync of the newest row; the primary waits for a
// member if no commit is made without it.
//
//	R1   A row changes only by compare-and-swap on its version; per term there is
//	     one primary. Every [Write] carries the version it replaces, a new term
//	     is always the old one + 1, and the register takes one writer per version.
//	R2   The set ⊆ what the primary waits for, whatever writes are unanswered.
//	     It waits for all of the newest row heard and of every write of its own
//	     over that row which is not known to have failed (possible); nobody else
//	     changes the set within its term. A write of unknown outcome counts until
//	     a newer version is heard, which is forced by one more write if need be.
//	R3   A log-id never holds less than it acknowledged. Acks say Held, and a log
//	     is dropped only when no ack of it counts: in a term in which none was
//	     given, or when the primary says Release and begins later rounds anew.
//	R4   A replica that has seen term t accepts and acks nothing of a lower term
//	     (current). Rows and messages are both taken note of.
//	R5   Logs that agree on (term, offset) agree on everything before. A term's
//	     entries are made by one primary, densely, onto one log; one that might
//	     have made some in an earlier life claims a term of its own first. A
//	     backup takes entries only onto a prefix of the primary's log: after
//	     join, one after the other, from one round.
//	R6   Committed = acked in the primary's own term by all it waits for; with R2
//	     it is in the log of every member of the set. A member is added only when
//	     it holds what is committed and all that the primary inherited, because
//	     the primary before may have committed that; and is waited for from the
//	     moment the write is sent.
//	R7   The next primary is from the set: the controller promotes only members
//	     of it, a hand-over goes only to one. By R6 it holds everything committed,
//	     and it cuts nothing: it commits its whole log anew.
//	R8   A backup cuts only what its primary's log lacks, at join; what is
//	     committed in its term or before is not among it by R7. (If it were, the
//	     backup raises an alarm and keeps it.) Who cuts what a later term commits
//	     has not heard of that, so that nobody counts on it there (R4).
//	R9   Nothing uncommitted is delivered, read, or acked, nor answered as a
//	     duplicate: the shell does these on Commit alone; and Serve comes only
//	     when all that was inherited is committed, so that nobody reads less than
//	     others have read before.
//	R10  What a commit mark has passed stays. Marks only move forward here; by R6
//	     to R8 an offset once committed names the same bytes in every log. Who
//	     needs a snapshot holds less than what its sender has committed.
//	R11  Packages slot and history: all that is committed in (since, through], or
//	     resync. The machine's part is R9's Serve. A position beyond the end of a
//	     log proves nothing before AsOf has passed the time of the question: the
//	     primary may have been replaced without knowing.
//	R12  Package history (prev and floors).
//	R13  Package slot: the key table is a function of the log, cut with it and
//	     restored with it; answers wait for the commit (R9).
//	R14  A freshness mark is backed by everybody the primary waits for: AsOf is
//	     the earliest time at which something was sent that each has answered
//	     since, on a stream on which it had acknowledged in this term and would
//	     have said Refuse before if it had heard of a higher one. No other primary can have committed before that,
//	     since it must be, or wait for, one of these.
//	R15  A new incarnation begins only if no member of the set can be acking: all
//	     their logs are known to be lost; or all but one, which was silent for
//	     UncleanAfter, and the primary of the term has agreed to that.
//
// R15 needs more words. A primary that may be alone in the set (whatever became
// of its writes) commits only while a renewal of its lease sent less than half
// of UncleanAfter ago succeeded; it has agreed to that by writing UncleanAfter
// into a row of its term, and every row that begins a term has 0 there. Silence
// proves nothing else. If two of the set may be alive, they may be acking to
// each other while both are cut off from etcd. If the set was reduced to one by
// a promotion which that one has not heard of, it may still be acking to the
// primary before. With only one member x left and the row of its term agreed
// to: if x leads, it is alone or waits for the dead; if x does not, its primary
// is dead. An answer that comes late, of an entry that all of the set held when
// it was given up, is lost like any that came in time.
//
// # Followers at copies
//
// A backup may serve followers, not readers and not publishers ([Effects] Relay).
// What they are told is what its primary would tell them, later:
//
//	F1   They get committed entries only, each once and in order. The commit mark
//	     of a backup is one that its primary has told it, as far as its own log
//	     goes, in a round that has joined: R6 and R8 hold for what it passes. It
//	     passes one entry after the other, since a log is replaced (by a snapshot,
//	     by another incarnation) or cut only between two rounds, and Stop comes
//	     with the end of one.
//	F2   A freshness mark of a backup is its primary's. As of some time before it
//	     said Fresh the primary knew that nobody had committed more than Commit
//	     (R14); the backup's own mark has reached that. It counts the age that the
//	     primary gives from when it asked, which was before by any clock, so that
//	     two clocks need only run equally fast. Nothing else moves that time: who
//	     is cut off, removed, or follows a primary that was replaced grows stale.
//	     This needs no order of messages beyond R14's: Fresh says itself of which
//	     mark and which question it is.
//	F3   Who is in sync, by the newest row heard, of that row's term, and has a
//	     stream to its primary serves. Safety needs none of these; they end
//	     serving early where marks would only grow stale, and keep members from
//	     serving that are still far behind.
//
// # What is kept closed twice
//
// The package's tests revert these rules one by one, and see what that loses. Of
// some conditions nothing can be lost, since another rule covers them; they spare
// time or trouble:
//
//   - Write.Present: a member that is gone has taken its log-id with it (R3), so
//     that a row which names it only keeps commits waiting until the next one.
//   - UncleanAfter is 0 in the rows by which a primary begins a term, not only in
//     those of the controller. Whoever leads by such a row wrote it itself, and
//     obeys it, or is not alone in its set and commits nothing by itself (R2).
//   - Admit says ErrMoving and a hand-over waits for what was accepted, so that
//     publishers wait and are not refused. The next primary is of the set (R7),
//     and what was not committed is not acknowledged (R9).
//   - AsOf waits for Serve: who has joined has acknowledged all that was
//     committed before the term (R6).
//   - The alarms: they are about what R1, R5, R7 and R8 exclude.
//
// # What the shell must do
//
//	S1  Call every method with the slot's lock held, and carry the effects out in
//	    order before the next call.
//	S2  Name the sender of a message by the log-id it has shown. Of two streams
//	    to a member only the newer counts: Down before the next Up. Messages that
//	    are lost, repeated or overtaken cost time only, but AsOf lies unless a
//	    stream delivers in order and loses nothing but its end.
//	S3  Tell Heard only of an answer to what was sent on the same stream, with
//	    the time at which it was sent, by a monotonic clock.
//	S4  Answer every Write by exactly one Written, Refused only if it was surely
//	    not applied and never will. Read until it works.
//	S5  Tell Renewed only of renewals of a lease that has lasted since all rows
//	    were read.
//	S6  Tick after the inbox was drained; a tick that is late counts once
//	    (CORRECTNESS rule 15).
//	S7  Append only when Admit returns nil, then call Appended. Accept and answer
//	    nothing after Stop.
//	S8  Tell Followed with every tick while a copy that relays has followers. They
//	    have, at every moment, been sent all that Commit has passed.
//	S9  Call Turn once for every Move, when the row that follows can be written at
//	    once: publishes wait from then on, and not before.
//	S10 Acknowledge nothing for a Commit with Few, nor a duplicate but as one that
//	    Admit accepts: with R6 all who are in sync then hold what it repeats.
package replica
