// Package relay lets a client speak to its session through any edge: the front
// that it is connected to keeps the HTTP exchange and relays what is said to the
// session's home.
//
//  1. There is one stream from each front to each home. What a front sends of
//     one exchange arrives in order; exchanges do not wait for each other.
//  2. At the home a relayed exchange is a [hold.Exchange] like any other: it is
//     answered once, and its owner hears of it once, Written or Lost. When the
//     stream ends all that were not over are Lost.
//  3. At the front every exchange that was taken ends in one of: an answer, a
//     word where else to look, or a failure: nobody knows then what the home did.
//     The last two are told to the [Front]'s owner, once.
//  4. A home that does not say for 4 s that it is there, while it is waited for, is
//     given up: its clients' patience is not much longer. A stream that nobody waits
//     on for a minute ends.
//  5. A front keeps nothing of a session. What waits for a home is bounded; more
//     fails at once.
package relay
