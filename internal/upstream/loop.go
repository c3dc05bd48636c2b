package upstream

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
)

// loop is the state of a running Follower. Run's goroutine alone touches it.
type loop struct {
	cfg     FollowerConfig
	sink    Sink
	metrics metrics
	open    func(p *peer) *attachment
	streams sync.WaitGroup
	events  chan event
	alarm   *time.Timer // calls again
	next    time.Time   // when alarm goes off; zero: never

	table    *shard.Table
	brokers  map[string]membership.Node // by member; with copies
	slots    [shard.Slots]*followed     // nil: not followed
	peers    map[string]*peer           // by member; owners of slots
	patterns map[string]*interest
	byID     map[uint64]*interest // patterns and literals
	lastID   uint64
	unsure   bool // a pattern's Join may have got the last answer it waits for
}

// peer is a broker that owns slots, or has copies of them.
type peer struct {
	member   string
	addr     string
	stream   *attachment // nil: waiting for retryAt
	failures int         // since the last marks
	retryAt  time.Time
}

// interest is a channel or pattern that was joined.
type interest struct {
	id       uint64
	channel  string
	slot     shard.Slot // of a literal
	literal  bool
	pending  bool                     // Joined is still to come
	answered map[*attachment]struct{} // of a pattern, while pending: by whom
}

func newLoop(ctx context.Context, f *Follower) *loop {
	l := &loop{
		cfg: f.cfg, sink: f.sink, metrics: f.metrics,
		events: make(chan event), alarm: time.NewTimer(time.Hour),
		peers: map[string]*peer{}, patterns: map[string]*interest{}, byID: map[uint64]*interest{},
	}
	l.alarm.Stop()
	l.open = func(p *peer) *attachment { return l.dial(ctx, p) }
	slots := f.cfg.Slots
	if slots == nil {
		for s := range shard.Slot(shard.Slots) {
			slots = append(slots, s)
		}
	}
	for _, s := range slots {
		since, given := f.cfg.Since[s]
		l.slots[s] = &followed{
			slot: s, through: since, known: given || f.cfg.Earliest, earliest: f.cfg.Earliest,
			literals: map[string]*interest{},
		}
	}
	return l
}

// see follows a new view.
func (l *loop) see(v membership.View) {
	l.table = v.Table
	if l.cfg.Copies {
		l.brokers = make(map[string]membership.Node)
		for _, n := range v.With(membership.Broker) {
			l.brokers[n.Member()] = n
		}
	}
	for _, s := range l.slots {
		if s == nil {
			continue
		}
		r := l.table.Row(s.slot)
		same := sameLog(r, s.row)
		if same && r.Version == s.row.Version {
			continue
		}
		s.row = r
		if same {
			if s.atCopy() && !slices.Contains(r.InSync, s.peer.member) {
				l.retreat(s)
			}
			s.retryAt = time.Time{}
			if s.state == detached {
				l.attach(s)
			}
			continue
		}
		l.detach(s)
		s.peer, s.retryAt, s.failures = l.peer(r), time.Time{}, 0
		l.attach(s)
	}
	for _, p := range l.peers {
		switch {
		case !l.owns(p):
			if p.stream != nil {
				p.stream.cancel()
				p.stream = nil
			}
			delete(l.peers, p.member)
		case p.stream == nil:
			l.connect(p)
		}
	}
}

// peer returns the peer of a member; nobody has none.
func (l *loop) peer(r shard.Row) *peer {
	if r.Addr == "" {
		return nil // nobody owns the slot
	}
	p := l.peers[r.Primary]
	if p == nil {
		p = &peer{member: r.Primary, addr: r.Addr}
		l.peers[r.Primary] = p
	}
	return p
}

func (l *loop) owns(p *peer) bool {
	for _, s := range l.slots {
		if s != nil && (s.peer == p || s.copy == p.member || s.crossing != nil && s.crossing.to.peer == p) {
			return true
		}
	}
	return false
}

// grant carries out what callers of Join and Leave wish.
func (l *loop) grant(wishes map[string]wish) {
	for channel, w := range wishes {
		i := l.find(channel)
		switch {
		case w.join && i == nil:
			l.join(channel)
		case w.join && w.left && !i.pending:
			l.announce(i) // it was joined all the time: a new Join gets a new answer
		case !w.join && i != nil:
			l.leave(i)
		}
	}
}

func (l *loop) find(channel string) *interest {
	if bayeux.IsPattern(channel) {
		return l.patterns[channel]
	}
	if s := l.slots[shard.Of(channel)]; s != nil {
		return s.literals[channel]
	}
	return nil
}

func (l *loop) join(channel string) {
	l.lastID++
	i := &interest{id: l.lastID, channel: channel, pending: true}
	if bayeux.IsPattern(channel) {
		i.answered = map[*attachment]struct{}{}
		l.patterns[channel] = i
		for _, p := range l.peers {
			if p.stream != nil {
				p.stream.turn.join(i)
			}
		}
	} else {
		i.literal, i.slot = true, shard.Of(channel)
		s := l.slots[i.slot]
		if s == nil {
			l.cfg.Logger.Error("joined a channel of a slot that is not followed", slog.Int("slot", int(i.slot)))
			return
		}
		s.literals[channel] = i
		s.stay()
		if s.state != detached {
			s.peer.stream.turn.join(i)
		}
	}
	l.byID[i.id] = i
}

func (l *loop) leave(i *interest) {
	delete(l.byID, i.id)
	if i.literal {
		s := l.slots[i.slot]
		delete(s.literals, i.channel)
		if s.crossing != nil {
			s.stay()
			s.crossing.to.turn.leave(i)
		}
		if s.state != detached {
			s.peer.stream.turn.leave(i)
		}
		return
	}
	delete(l.patterns, i.channel)
	for _, p := range l.peers {
		if p.stream != nil {
			p.stream.turn.leave(i)
		}
	}
}

// connect opens a stream to a peer and all that it owns on it, if its time has
// come.
func (l *loop) connect(p *peer) {
	if time.Now().Before(p.retryAt) {
		l.wake(p.retryAt)
		return
	}
	p.stream = l.open(p)
	for _, i := range l.patterns {
		p.stream.turn.join(i)
	}
	for _, s := range l.slots {
		if s != nil && s.peer == p {
			l.attach(s)
		}
	}
}

// disconnect gives a stream up, with whatever it may still bring.
func (l *loop) disconnect(st *attachment, err error) {
	st.cancel()
	p := st.peer
	p.stream = nil
	p.failures++
	p.retryAt = time.Now().Add(retry(p.failures))
	l.metrics.reconnects.Inc()
	for _, s := range l.slots {
		if s == nil {
			continue
		}
		if s.crossing != nil && s.crossing.to == st {
			s.crossing = nil
		}
		if s.peer != p {
			continue
		}
		s.state, s.overlap = detached, 0
		if s.atCopy() {
			s.fail(time.Now())
			l.retreat(s)
		}
	}
	l.wake(p.retryAt)
	l.cfg.Logger.Info("lost the stream of a broker; reconnecting",
		slog.String("broker", p.member), slog.Any("err", err))
}

// errSilent says why a stream was dropped.
var errSilent = errors.New("no freshness marks for three heartbeats")

// listen counts the heartbeats in which a broker said nothing, and looks for
// copies that are better followed.
func (l *loop) listen() {
	for _, p := range l.peers {
		if p.stream == nil {
			continue
		}
		if p.stream.silent++; p.stream.silent > 3 {
			l.disconnect(p.stream, errSilent)
		}
	}
	if l.cfg.Copies {
		l.spread(time.Now())
	}
}

// wake sees to it that again is called at t, or earlier.
func (l *loop) wake(t time.Time) {
	if !l.next.IsZero() && !t.Before(l.next) {
		return
	}
	l.next = t
	l.alarm.Reset(time.Until(t))
}

// again tries again what failed a while ago.
func (l *loop) again(now time.Time) {
	l.next = time.Time{}
	for _, p := range l.peers {
		if p.stream == nil {
			l.connect(p)
		}
	}
	for _, s := range l.slots {
		if s == nil || s.state != detached || s.retryAt.IsZero() {
			continue
		}
		if now.Before(s.retryAt) {
			l.wake(s.retryAt)
			continue
		}
		s.retryAt = time.Time{}
		l.attach(s)
	}
}

// flush sends the commands of this turn.
func (l *loop) flush() {
	for _, p := range l.peers {
		if st := p.stream; st != nil && !st.flush() {
			l.disconnect(st, errStuck)
		}
	}
}

// handle takes what a stream brought, unless it was given up.
func (l *loop) handle(e event) {
	if e.stream.peer.stream != e.stream {
		return
	}
	if e.resp == nil {
		l.disconnect(e.stream, e.err)
		return
	}
	for _, f := range e.resp.GetFrames() {
		if err := l.frame(e.stream, f); err != nil {
			l.disconnect(e.stream, err)
			return
		}
	}
	l.settle()
	e.stream.pull(uint64(l.cfg.Credit))
}
