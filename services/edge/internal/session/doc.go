// Package session is a Bayeux client as the edge sees it: a pure state machine.
// Requests, deliveries and the passing of time go in; answers, publishes and
// interests come out. It never blocks, starts nothing and reads no clock.
//
// What the shell around it must do:
//
//  1. It makes one call at a time (a lock per session), with its own Effects,
//     and carries the effects of one session out in the order of the calls.
//  2. Before it lets go of the lock it hands Deadline to its timers, and calls
//     Tick when that time has come. A Tick that comes early does no harm.
//  3. It answers every Interest that is not a Leave, and each of Places, by
//     Subscribed, every Publish by Published and every Replay by Replayed,
//     once, at any time, but never from within a call of the session.
//  4. It reports every Answer to an HTTP request by Written or Lost, once, and
//     one whose peer vanished before it was answered by Lost.
//  5. It sends Answers that have a Socket, and then Pushes, as frames of that
//     socket, and reports neither; pongs it reports by Pong. When the socket is
//     full it says Blocked before it lets go of the lock, and Writable when
//     nothing waits there any more. When a socket is gone it says Unbind to every
//     session that it gave a Request of it, and gives it no more.
//
// What the session promises:
//
//  6. Every HTTP exchange is answered exactly once, unless it was Lost before.
//     A frame has one answer to its connect and one to its other messages,
//     which do not wait for the connect.
//  7. One connect is current: the newest by arrival. An older one that waits
//     ends with 503 and without a Bayeux reply; on a socket it is not answered.
//  8. Events of a channel are sent in the order of Deliver, one copy each,
//     whatever subscriptions overlap. An event at or below the start of a
//     subscription is not delivered through it. History that a client asks for
//     comes before what is pushed, once; only after a resync, a socket that was
//     left, a move or a policy other than Recover, beside a pattern, or after it
//     left a subscription that read ahead of a wider one, may it repeat events.
//  9. Without the ack extension what a connect's answer carried is kept until
//     the next connect, and sent again when that one shows that the answer was
//     lost. Copies are possible only then.
//  10. With it every event belongs to one batch for ever, and is sent with each
//     connect's answer until its batch is acknowledged, over sockets too.
//  11. The queue is bounded. When it overflows it is dropped, and the next
//     connect's answer names every subscription that lost something. So do
//     answers after Resync, until one of them is known to have arrived.
//  12. A channel's policy may let its events give way while they wait: the
//     oldest of such channels (DropOldest), or the older one of the same
//     channel (Conflate). The client is not told. Messages for this session
//     alone never give way.
//  13. A held connect never expires. The clock starts when its answer was
//     written or its loss was seen; on a socket, when its answer was made, but
//     not while the socket is blocked.
//  14. A session that drains answers connects at once, with a pause to make. It
//     ends when an answer to a connect was written and nothing is owed, at the
//     latest with the third. One on a socket, or that is to go on elsewhere, is
//     left to the shell.
//
// Where events go:
//
//  15. They go to where the newest connect came from: with the answers to
//     connects, or to the socket. Before the first connect, and when the
//     newest one's socket is gone, the next frame of any socket is enough.
//  16. To a socket they are pushed at once, and neither wait for a connect nor
//     end its hold; with the ack extension, and when it drains, they go with
//     connects. Only losses end a hold.
//  17. While the socket is blocked they wait in the queue, and not longer than
//     Config.QueueAge; what waits longer is dropped as when the queue
//     overflows.
//  18. What was pushed is kept until the pong to a ping behind it: one ping at a
//     time, within 1 to 2.5 s, sooner if there is very much of it. If the socket is
//     left before, it goes to where events go next, and may come twice. No more
//     is kept than the queue may hold; of what had to be let go of the client is
//     told then.
//
// How it moves to another edge:
//
//  19. Snapshot and then Move, in one hold of the lock, end it here because it
//     goes on elsewhere. From then on nobody is answered: exchanges that are
//     open, and those that still come, end with 503, never 408, and frames have
//     no answer. Its reason is Moved, of which presence is not told.
//  20. Restored from that snapshot it is as if it had not moved. What waited comes
//     first; batches keep their numbers and contents; what went with an answer
//     other than a connect's comes again if it is not known to have arrived.
//     Requests that were open are not repeated, and subscriptions that the
//     client had not been told of are gone.
//  21. Restored from a record, Resume, with the vector that was told after it,
//     it skips nothing without a notice, but messages for this session alone.
//     What is newer than the vector, or than what Resume says instead, may come
//     again. Batches go on 1000 numbers behind those that the record or the client
//     knows of, so no number has two meanings.
//     With the ack extension nothing comes again if that is the Resume, with
//     settled, of when the last Answer with Record was made, and the client's
//     first connect acknowledges what it has: that is told apart by Sent.
//  22. Whoever keeps records asks Behind of every session before it tells a
//     vector. If it is so, or was so the last time, the new Resume is told first.
//  23. A restored session joins its subscriptions again and reads, slot by slot,
//     what came meanwhile, for all of them at a time; requests do not wait for
//     that. What is pushed of a slot that is behind is read, too: so of channels
//     that retain nothing it is lost, as it is of those who are not there. Through
//     a pattern some events may come that are older than its subscription.
//  24. What is gone, or cannot be read, is told of exactly those subscriptions
//     of which it is; then they go on with what is pushed.
//  25. A subscription that cannot be joined is asked for again as long as the
//     client has it, and its slots are behind until then: nothing is told, for
//     nothing is lost before history is.
//
// Rosters, channels under /presence/ that tell who is on another:
//
//  26. Their shell tells of them by Tell, first all of it and then what changes,
//     to a session that is subscribed. They have no history and no positions.
//  27. They take nobody's place in the queue: when it is full Tell queues nothing,
//     and says so. Of news that are dropped with the queue, or were on the way to a
//     socket that was left, no client is told: Effects.Stray asks for all of it.
//
// What backends order:
//
//  28. Enlist and Withdraw do what a subscribe and an unsubscribe message of the
//     client would, but ask nobody whether it may, and tell it nothing. The client
//     has the subscriptions that it made and those that were made for it alike.
package session
