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
//  4. It reports every Answer by Written or Lost, once, and an exchange whose
//     peer vanished before it was answered by Lost.
//
// What the session promises:
//
//  5. Every exchange is answered exactly once, unless it was Lost before.
//  6. One connect is current: the newest by arrival. An older one that waits
//     ends with 503 and without a Bayeux reply.
//  7. Events of a channel are sent in the order of Deliver, one copy each,
//     whatever subscriptions overlap. An event at or below the start of a
//     subscription is not delivered through it. History that a client asks for
//     comes before what is pushed, once; only after a resync, or after it left
//     a subscription that read ahead of a wider one, may it repeat events.
//  8. Without the ack extension what a connect's answer carried is kept until
//     the next connect, and sent again when that one shows that the answer was
//     lost. Copies are possible only then.
//  9. With it every event belongs to one batch for ever, and is sent with each
//     connect's answer until its batch is acknowledged.
//  10. The queue is bounded. When it overflows it is dropped, and the next
//     connect's answer names every subscription that lost something. So do
//     answers after Resync, until one of them is known to have arrived.
//  11. A held connect never expires. The clock starts when its answer was
//     written or its loss was seen.
package session
