// Package edge terminates browsers: it holds their requests, keeps their
// sessions, and connects these to brokers and presence.
//
//  1. A handshake that was answered successfully made a session, which this edge is
//     the home of until it disconnects, expires, or another edge claims it. An
//     edge that is asked for a session of another relays to that, or claims it.
//  2. What is committed on a channel after a subscribe to it was confirmed
//     reaches the session once, in order; or the session is told that it was
//     not (resync).
//  3. A channel crosses the wire once, however many sessions listen.
//  4. Sessions, their queues, requests, publishes and WebSockets are bounded;
//     what is over a bound is refused with its name.
//  5. Nothing that is called under a session's lock blocks, or takes a lock
//     under which anything is called; what a session wants done is done after,
//     in order.
//  6. A drain refuses handshakes, answers every held request and closes every
//     WebSocket over some time, and ends with no session left: each is in its
//     record at presence with all that waits in it or, without presence, ended.
//     An operator may order it: then the edge stays, and takes nobody.
//  7. Backends may end sessions, and subscribe and unsubscribe them. An edge that
//     is told that a session has no home claims it, to end it.
//  8. Who subscribes to /presence/<channel> is told who is on the channel, first all
//     and then what changes, as presence says. What presence cannot be asked of
//     does not change.
package edge
