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
//  3. It answers every Interest that is not a Leave by Subscribed, every
//     Publish by Published and every Replay by Replayed, once, at any time,
//     but never from within a call of the session.
//  4. It reports every Answer to an HTTP request by Written or Lost, once, and
//     one whose peer vanished before it was answered by Lost.
//  5. It sends Answers that have a Socket, and then Pushes, as frames of that
//     socket, and reports neither. When the socket is full it says Blocked
//     before it lets go of the lock, and Writable when nothing waits there any
//     more. When a socket is gone it says Unbind to every session that it gave
//     a Request of it, and gives it no more.
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
//     left or a policy other than Recover, or after it left a subscription that
//     read ahead of a wider one, may it repeat events.
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
//     latest with the third. One on a socket is left to the shell.
//
// Where events go:
//
//  15. They go to where the newest connect came from: with the answers to
//     connects, or to the socket. Before the first connect, and when the
//     newest one's socket is gone, the next frame of any socket is enough.
//  16. To a socket they are pushed at once, and neither wait for a connect nor
//     end its hold; with the ack extension they go with connects. Only losses
//     end a hold.
//  17. While the socket is blocked they wait in the queue, and not longer than
//     Config.QueueAge; what waits longer is dropped as when the queue
//     overflows.
//  18. Without the ack extension what was pushed is gone if the socket drops
//     before it arrived. What waits in the queue then goes to where events go
//     next.
package session
