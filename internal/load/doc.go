// Package load puts load on a Comet server and measures what it does, through
// its public doors alone, as ordinary clients of every transport.
//
//  1. Rates are open loop: a message has a time at which it is due, whatever
//     became of those before it, and its latency runs from then until a client
//     has read it. A server that delays publishers pays for that too.
//  2. Every client checks its channel's sequence. What was accepted and did not
//     arrive is lost; what arrived again, late or at the wrong client is
//     counted apart. A client that lost its connection resumes where it was;
//     what it then gets again is no repeat.
//  3. The tool says what it used itself. Where that was most of what the
//     machine had left, the figures are bounds of the tool, not of the server.
//  4. It loads no other machine unless told to, and has bounds of its own.
//
// On Linux a worker holds its connections with epoll, without a goroutine or a
// buffer for each; elsewhere, and for https, each has a goroutine.
package load
