// Package hub knows which sessions and requests of this edge want which
// channels, and hands every entry to those that do.
//
//  1. An entry reaches each subscriber once for each of its matching
//     subscriptions (a session drops the copies: only it knows which of them
//     still stand); entries of a slot in the order of their offsets.
//  2. A subscriber is told Subscribed before the first entry after the position
//     it was told, and then gets all of them, or Resync. Of a pattern From says
//     the positions, to those who want them.
//  3. A channel is wanted from upstream while it has subscribers, and for Linger
//     after the last one left or read its ring. A subscriber of a channel that
//     has already joined is confirmed at once.
//  4. A ring holds what was handed out of a channel in the interval (from,
//     through] without a hole; it lives while the channel is joined and is
//     bounded in messages and bytes, per channel and per slot.
//  5. Fan-out to one more subscriber allocates nothing, and holds no lock that
//     subscribing needs.
//  6. A subscriber that was not told Resync has been handed every entry between
//     the position it began at and what Handed says; see there.
//
// Upstream says that entries are lost without saying up to where; only by the
// next Through all of them have been passed. Until then nobody can know what
// they miss: a channel that lost has no ring, and whoever subscribes to it is
// told Resync, too.
//
// The hub starts nothing and reads no clock. Upstream it is driven by Joined,
// Entry, Through and Resync, of which those for one slot must not overlap; what
// it wants there is read from Changes.
package hub
