// Package hub fans committed entries out to followers. Being written.
//
// The lock of a slot (the one that also guards its slot.Slot) is the caller's.
// Methods of Follower take it themselves: never call them while holding one.
// Slot.Publish and Slot.List are called with it held. The commands of one
// follower (Open … Close, Marks) come from one goroutine; Items, Ready, Grant
// may come from any.
package hub

import (
	"sync"

	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
)

// Hub connects the owned slots of a broker with its followers.
type Hub struct{}

// New returns a Hub that owns no slots. version returns the version of the row
// this broker knows of a slot; it may be called with slot locks held.
func New(version func(shard.Slot) int64) *Hub { panic("not yet") }

// Slot is the fan-out of one owned slot.
type Slot struct{}

// Add begins to serve a slot. lock guards the log.
func (h *Hub) Add(n shard.Slot, lock sync.Locker, log Log) *Slot { panic("not yet") }

// Remove ends serving a slot: its followers are told Moved. Call it without the slot's lock.
func (h *Hub) Remove(n shard.Slot) { panic("not yet") }

// Publish fans out what Slot.Commit returned. The slot's lock is held.
func (s *Slot) Publish(entries []*history.Entry) { panic("not yet") }

// List lists channels with entries or followers, by name. The slot's lock is held.
func (s *Slot) List(pattern, after string, limit int) []Info { panic("not yet") }

// Info is what is known of a channel.
type Info struct {
	history.Info
	// Followers is how many interests have exactly this name.
	Followers int
}

// Follower is one stream that follows slots.
type Follower struct{}

// Attach returns a follower with byte credit and no slots.
func (h *Hub) Attach(credit uint64) *Follower { panic("not yet") }

// Open follows a slot; answered by Opened (and Lag if start is given) or Moved.
func (f *Follower) Open(n shard.Slot, start Start) error { panic("not yet") }

// Join adds an interest; answered by Joined, or Moved for its slot.
func (f *Follower) Join(id uint64, channel string) error { panic("not yet") }

// Leave removes an interest; unknown ones are ignored.
func (f *Follower) Leave(id uint64) { panic("not yet") }

// Pull sends a lagging slot's entries within credit. It ends with Resumed or Lag.
func (f *Follower) Pull(n shard.Slot) error { panic("not yet") }

// Marks sends the freshness marks that moved; to be called once per heartbeat.
func (f *Follower) Marks() { panic("not yet") }

// Grant adds credit.
func (f *Follower) Grant(bytes uint64) { panic("not yet") }

// Ready receives when there are items to take.
func (f *Follower) Ready() <-chan struct{} { panic("not yet") }

// Items returns what is to be sent, in order; the slice is valid until the next call.
func (f *Follower) Items() []Item { panic("not yet") }

// Close forgets the follower.
func (f *Follower) Close() { panic("not yet") }
