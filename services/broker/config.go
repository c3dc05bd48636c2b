package broker

import (
	"cmp"
	"context"
	"net"
	"time"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/namespace"
	"github.com/comet-push/comet/services/broker/internal/history"
	"github.com/comet-push/comet/services/broker/internal/placement"
	"github.com/comet-push/comet/services/broker/internal/slot"
)

// Config says how a broker behaves. The zero value of a field is its default.
type Config struct {
	// AnyPattern lets backends subscribe to patterns that fix no segment, as /**.
	AnyPattern bool
	// Heartbeat is how often followers get freshness marks, and other brokers
	// are asked whether they are there; 1 s.
	Heartbeat time.Duration
	// DrainTimeout is how long a drain waits for others to take the slots, 20 s;
	// LastCopyTimeout how long it does while this broker has the only copy of
	// some of them, 30 s.
	DrainTimeout    time.Duration
	LastCopyTimeout time.Duration
	// Lease is that of the directory; 3 s.
	Lease time.Duration

	// Replicas is how many copies of each slot there should be, if there are as
	// many brokers; 2. MinInSync is how many must be in sync for a publish to be
	// accepted, the primary's included; 1.
	Replicas  int
	MinInSync int
	// UncleanAfter is after how much silence of the only copy of a slot that is
	// not known to be lost it starts anew, 30 s; negative, or with one replica,
	// or with a disk unless it is given: never. A primary alone acknowledges for
	// half of it without the directory.
	UncleanAfter time.Duration
	// RepairAfter is how long the copies of a broker that is absent are left to
	// it: with a disk 1 min, for it comes back with them; else not at all.
	RepairAfter time.Duration

	// PublishTimeout is how long a publish may take; 8 s.
	PublishTimeout time.Duration
	// Timeout is how long other calls to nodes may take; 5 s.
	Timeout time.Duration
	// MaxInFlight is how many publishes of one PublishStream may wait, 1024;
	// MaxInFlightBytes how many bytes of data and ext, give or take one, 8 MiB.
	MaxInFlight      int
	MaxInFlightBytes int
	// MaxSubscriptions is how many Subscribe calls are served; 10,000.
	MaxSubscriptions int
	// SubscribeBuffer is how many bytes wait for one subscriber before its
	// brokers have to; 1 MiB. SlowTimeout is how long they do before the
	// stream is ended as slow; 10 s.
	SubscribeBuffer int
	SlowTimeout     time.Duration
	// IdleCursor is after how much silence a subscriber gets a cursor, 25 s;
	// CursorEvery how often it gets one among messages, 10 s.
	IdleCursor  time.Duration
	CursorEvery time.Duration

	// SlotBytes bounds the memory of one slot's history; 4 MiB: 1 GiB where one
	// broker owns all slots.
	SlotBytes int
	// KeyWindow is how long an idempotency key is remembered; 5 min.
	KeyWindow time.Duration
	// SweepEvery is how often what is too old is dropped; 1 s.
	SweepEvery time.Duration

	// Dial opens a connection to the node door of another broker, to see
	// whether it is gone: then the error wraps syscall.ECONNREFUSED. nil: TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
}

func (c Config) withDefaults(durable bool) Config {
	if durable {
		c.UncleanAfter = cmp.Or(c.UncleanAfter, -1)
		c.RepairAfter = cmp.Or(c.RepairAfter, time.Minute)
	}
	c.Heartbeat = cmp.Or(c.Heartbeat, time.Second)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 20*time.Second)
	c.LastCopyTimeout = max(cmp.Or(c.LastCopyTimeout, 30*time.Second), c.DrainTimeout)
	c.Lease = cmp.Or(c.Lease, membership.DefaultLease)
	c.Replicas = cmp.Or(c.Replicas, placement.DefaultReplicas)
	c.MinInSync = cmp.Or(c.MinInSync, 1)
	c.UncleanAfter = max(cmp.Or(c.UncleanAfter, 30*time.Second), 0) // from here on 0 is never
	if c.Replicas == 1 {
		c.UncleanAfter = 0
	}
	c.PublishTimeout = cmp.Or(c.PublishTimeout, 8*time.Second)
	c.Timeout = cmp.Or(c.Timeout, 5*time.Second)
	c.MaxInFlight = cmp.Or(c.MaxInFlight, 1024)
	c.MaxInFlightBytes = cmp.Or(c.MaxInFlightBytes, 8<<20)
	c.MaxSubscriptions = cmp.Or(c.MaxSubscriptions, 10_000)
	c.SubscribeBuffer = cmp.Or(c.SubscribeBuffer, 1<<20)
	c.SlowTimeout = cmp.Or(c.SlowTimeout, 10*time.Second)
	c.IdleCursor = cmp.Or(c.IdleCursor, 25*time.Second)
	c.CursorEvery = cmp.Or(c.CursorEvery, 10*time.Second)
	c.SlotBytes = cmp.Or(c.SlotBytes, 4<<20)
	c.KeyWindow = cmp.Or(c.KeyWindow, slot.DefaultKeyWindow)
	c.SweepEvery = cmp.Or(c.SweepEvery, time.Second)
	if c.Dial == nil {
		c.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		}
	}
	return c
}

// freshFor is how old the proof may be that nobody else leads a slot: other
// brokers are asked once a heartbeat, and followers are told once.
func (c Config) freshFor() time.Duration { return 2 * c.Heartbeat }

// tickEvery is the pace of the machines.
func (c Config) tickEvery() time.Duration { return c.Heartbeat / 10 }

// catchUpBytes is what each slot keeps of its log beyond its history, for
// copies that were away for a moment. Those that were longer get a snapshot,
// during which four times as much is kept.
const catchUpBytes = 512 << 10

// logs is how each slot's log is kept.
func (c Config) logs(set *namespace.Set) slot.Config {
	return slot.Config{
		Retention: history.Config{Class: classes(set), Bytes: c.SlotBytes},
		LogBytes:  catchUpBytes,
		KeyWindow: c.KeyWindow,
	}
}

// classes is what namespaces say about retention.
func classes(set *namespace.Set) func(channel string) history.Class {
	return func(channel string) history.Class {
		o := set.Of(channel)
		return history.Class{Messages: o.Messages, Bytes: o.Bytes, Age: o.Age, MessageBytes: o.MaxMessageBytes}
	}
}
