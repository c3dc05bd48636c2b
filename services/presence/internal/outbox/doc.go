// Package outbox keeps what has become of sessions until it is known to be
// published. Both holders of a shard put the same events into their outboxes;
// the first holder publishes them, and both read what is published. It is a
// pure state machine: time comes in, nothing waits, nothing is sent. Not safe
// for concurrent use.
//
//  1. An event is kept until it is published here, or seen in its channel, or a
//     later event of its session is there that says the same; or until it is
//     too old, or there are too many: the oldest go first, and are counted.
//  2. Only events of shards that this process is the first holder of are given
//     out, and not before the channel was read to its end since it became that
//     (Proven): a new first holder publishes what the old one did not, and as
//     little as possible twice.
//  3. Events of one session are given out in the order they came, each once the
//     one before it is published.
//  4. What was seen before it was put is remembered, too, within the same
//     bounds: the other holder may hear and publish first.
//  5. A session that turns out to have moved takes back its end, unless that is
//     under way already.
package outbox

import (
	"strconv"

	"github.com/comet-push/comet/internal/shard"
)

// Channels is how many channels events are spread over.
const Channels = 16

// Channel is the number of one, from 0 to Channels-1.
type Channel int

// ChannelOf returns where the events of a shard's sessions are published.
func ChannelOf(s shard.PresenceShard) Channel { return Channel(s % Channels) }

// Name is the channel's name below a prefix.
func (c Channel) Name(prefix string) string { return prefix + strconv.Itoa(int(c)) }
