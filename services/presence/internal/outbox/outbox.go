package outbox

import (
	"slices"
	"time"

	"github.com/comet-push/comet/internal/home"
	"github.com/comet-push/comet/internal/shard"
)

// Config bounds a Box.
type Config struct {
	// Keep is how long an event is kept.
	Keep time.Duration
	// Most is how many are, and of how many sessions it is remembered what was
	// seen.
	Most int
	// Flying is how many of one channel are given out at a time.
	Flying int
}

// Box is the events that a process keeps.
type Box struct {
	cfg   Config
	lines map[string][]*item // by session, in order
	byID  map[string]*item
	order []*item // from the oldest; those that are gone stay until they are it
	heads [Channels][]*item
	fly   [Channels]int
	parts [shard.PresenceShards]part
	round [Channels]uint64
	seen  seen
}

// part is what a shard is to this process.
type part struct {
	state state
	since uint64 // of its channel's rounds
}

type state uint8

const (
	other    state = iota // somebody else publishes its events
	unproven              // this process will, once it has read the channel
	open                  // this process does
)

// item is an event that is kept.
type item struct {
	event   *Event
	g       home.Generation
	channel Channel
	shard   shard.PresenceShard
	joined  time.Time // of a Left
	at      time.Time
	flying  bool
	queued  bool // in heads
	gone    bool
}

// New returns an empty Box.
func New(cfg Config) *Box {
	return &Box{
		cfg: cfg, lines: make(map[string][]*item), byID: make(map[string]*item),
		seen: seen{most: cfg.Most, keep: cfg.Keep, of: make(map[string]*mark)},
	}
}

// Len returns how many events are kept.
func (b *Box) Len() int { return len(b.byID) }

// SetFirst says which shards this process is the first holder of.
func (b *Box) SetFirst(first []shard.PresenceShard) {
	var now [shard.PresenceShards]bool
	for _, s := range first {
		now[s] = true
	}
	var begun [Channels]bool
	for s := range b.parts {
		p, c := &b.parts[s], ChannelOf(shard.PresenceShard(s))
		switch {
		case !now[s]:
			*p = part{}
		case p.state == other:
			if !begun[c] {
				b.round[c]++
				begun[c] = true
			}
			*p = part{state: unproven, since: b.round[c]}
		}
	}
}

// Unproven reports whether events of a channel wait until it is Proven, and in
// which round.
func (b *Box) Unproven(c Channel) (round uint64, yes bool) {
	for s := int(c); s < len(b.parts); s += Channels {
		yes = yes || b.parts[s].state == unproven
	}
	return b.round[c], yes
}

// Proven says that everything was Seen that the channel held at a time when
// Unproven had returned the round.
func (b *Box) Proven(c Channel, round uint64) {
	for s := int(c); s < len(b.parts); s += Channels {
		if p := &b.parts[s]; p.state == unproven && p.since <= round {
			p.state = open
		}
	}
	for _, x := range b.order { // in the order they came
		if !x.gone && x.channel == c && b.lines[x.event.Session][0] == x {
			b.offer(x)
		}
	}
}

// offer lets the first event of a session be given out.
func (b *Box) offer(x *item) {
	if !x.queued && !x.flying && b.parts[x.shard].state == open {
		x.queued = true
		b.heads[x.channel] = append(b.heads[x.channel], x)
	}
}

// Put keeps an event that this process heard of. joined is since when a channel
// that was left had been known there. It returns how many events had to be
// given up that this process was to publish.
func (b *Box) Put(e *Event, joined, now time.Time) (lost int) {
	s := shard.OfSession(e.Session)
	x := &item{event: e, g: e.generation(), channel: ChannelOf(s), shard: s, joined: joined, at: now}
	if b.byID[e.ID] != nil || b.seen.proves(x) {
		return 0
	}
	b.byID[e.ID] = x
	b.order = append(b.order, x)
	b.lines[e.Session] = append(b.lines[e.Session], x)
	if len(b.lines[e.Session]) == 1 {
		b.offer(x)
	}
	for len(b.byID) > b.cfg.Most {
		lost += b.giveUp()
	}
	if len(b.order) > 2*len(b.byID)+slack {
		b.order = slices.DeleteFunc(b.order, func(x *item) bool { return x.gone })
	}
	return lost
}

// slack is how many events that are gone may stand behind one that is not.
const slack = 1024

// giveUp drops the oldest event.
func (b *Box) giveUp() (lost int) {
	x := b.order[0]
	b.order[0] = nil
	if b.order = b.order[1:]; x.gone {
		return 0
	}
	b.remove(x)
	if b.parts[x.shard].state != other {
		lost = 1
	}
	return lost
}

// remove forgets an event, and lets the next one of its session follow.
func (b *Box) remove(x *item) {
	if x.gone {
		return
	}
	x.gone = true
	delete(b.byID, x.event.ID)
	line := b.lines[x.event.Session]
	i := slices.Index(line, x)
	if line = slices.Delete(line, i, i+1); len(line) == 0 {
		delete(b.lines, x.event.Session)
		return
	}
	if b.lines[x.event.Session] = line; i == 0 {
		b.offer(line[0])
	}
}

// Tick drops what is too old. It returns how many events that were that this
// process was to publish.
func (b *Box) Tick(now time.Time) (lost int) {
	for len(b.order) > 0 && (b.order[0].gone || now.Sub(b.order[0].at) >= b.cfg.Keep) {
		lost += b.giveUp()
	}
	b.seen.expire(now)
	return lost
}

// Take gives out events of a channel that are to be published now. Each is to
// be answered by Done or Failed.
func (b *Box) Take(c Channel) (events []*Event) {
	heads := b.heads[c]
	for len(heads) > 0 && b.fly[c] < b.cfg.Flying {
		x := heads[0]
		heads[0] = nil
		heads = heads[1:]
		if x.queued = false; x.gone || b.parts[x.shard].state != open {
			continue
		}
		x.flying = true
		b.fly[c]++
		events = append(events, x.event)
	}
	b.heads[c] = heads
	return events
}

// Done says that an event that was given out is published.
func (b *Box) Done(e *Event) {
	b.fly[ChannelOf(shard.OfSession(e.Session))]--
	if x := b.byID[e.ID]; x != nil && x.event == e {
		b.remove(x)
	}
}

// Failed says that it may not be published; it is given out again.
func (b *Box) Failed(e *Event) {
	b.fly[ChannelOf(shard.OfSession(e.Session))]--
	x := b.byID[e.ID]
	if x == nil || x.event != e {
		return
	}
	if x.flying = false; b.seen.proves(x) {
		b.remove(x)
		return
	}
	b.offer(x)
}

// Seen says that an event stands in its channel.
func (b *Box) Seen(e *Event, now time.Time) {
	b.seen.add(e, now)
	for _, x := range slices.Clone(b.lines[e.Session]) {
		if !x.flying && b.seen.proves(x) {
			b.remove(x)
		}
	}
}

// Withdraw says that a session is there in a generation: it did not end before.
func (b *Box) Withdraw(session string, g home.Generation) {
	for _, x := range slices.Clone(b.lines[session]) {
		if x.event.Ended != nil && !x.flying && g.After(x.g) {
			b.remove(x)
		}
	}
}
