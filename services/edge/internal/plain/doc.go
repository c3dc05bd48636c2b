// Package plain is one request that reads plain channels: a pure state machine.
// What the hub hands over, pages of history and the passing of time go in;
// frames of a stream or one answer, interests and reads come out. It never
// blocks, starts nothing and reads no clock.
//
// What the shell around it must do:
//
//  1. It makes one call at a time (a lock per reader), with its own Effects, and
//     carries the effects of one reader out in the order of the calls.
//  2. Before it lets go of the lock it has given Frames to the stream and
//     Deadline to its timers. It calls Tick when that time has come. A Tick that
//     comes early does no harm.
//  3. It answers every Interest that is not a Leave by Subscribed and every Read
//     by Replayed, once, at any time, but never from within a call of the reader.
//     The slots of a Read can be read in any order, or at once.
//  4. When it has sent frames and the stream is full it calls Blocked, and
//     Writable when the stream has room again. When it has sent frames, the
//     stream is not full and Effects.More is set, it calls Writable at once.
//  5. Entries of one slot come to Deliver in the order of their offsets, once for
//     each matching interest, without another entry of the slot in between.
//     Config.Handed is never ahead of what Deliver has returned from, and never
//     falls.
//
// What the reader promises:
//
//  6. The first frame of a stream is open, the last is end, except that a frame
//     document is told to load itself anew. A request that cannot be served is
//     Refused before the first frame. One that reads once gets one answer.
//  7. Messages of a channel go out in the order of their offsets, each message
//     once, whatever interests overlap.
//  8. Whoever goes on from any cursor that was sent, or from any message of one
//     literal channel, has missed nothing but what a resync before it named. No
//     cursor beyond a loss goes out before the resync that tells of it.
//  9. What is pushed while history is read is not kept, but read with it.
//  10. A stream that is full is queued for within bounds of messages, bytes and
//     age. Beyond them the policy of the channel decides; a stream that may lose
//     nothing ends, with the cursor from which all that waited is read again.
//  11. An event that can go out at once costs no allocation, and on one literal
//     channel the same time whatever happened before.
package plain
