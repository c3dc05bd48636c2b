package replica

import (
	"slices"
	"time"

	"github.com/comet-push/comet/internal/shard"
)

// The bounds of a replica unless Config says otherwise.
const (
	DefaultWindow    = 1 << 20
	DefaultBatch     = 128 << 10
	DefaultPiece     = 16 << 10
	DefaultPatience  = 10
	DefaultProbation = 100
)

// maxPieces is how many pieces of a snapshot are sent to a member and not
// acknowledged.
const maxPieces = 8

// Config sets a Replica up. The zero value of a bound is its default.
type Config struct {
	// Self is this member, name@log-id.
	Self string
	// MinInSync is how many members must be in sync, the primary included, for
	// a publish to be accepted.
	MinInSync int
	// UncleanAfter is what a primary writes into the rows of its term: after how
	// much silence of the only member the log may be given up. A new term's row
	// has 0, so that a primary has agreed to stop by itself, at half of that,
	// before anybody relies on it.
	UncleanAfter time.Duration
	// Window bounds the entries, in bytes, that are sent to a member and not
	// acknowledged; one of them may be larger. Batch bounds a message.
	Window, Batch int
	// Piece is about how many bytes of a snapshot are sent at a time, and made:
	// few, since others wait meanwhile. As many as maxPieces are on their way.
	Piece int
	// Patience is after how many ticks without progress a member for which
	// entries wait is removed; three times that, and it is asked again, if none
	// do. Probation is how many ticks a member that failed must be well before
	// it returns; Patience if it is to take the only copy.
	Patience, Probation int
}

// Replica is one slot at one member: its part in replicating the slot's log. It
// has no lock and no clock: the lock of the slot guards it, and time comes in.
// Most events add to Effects, which are to be carried out before the next.
type Replica struct {
	cfg  Config
	log  Log
	born uint64 // terms up to this one may have been led in an earlier life

	row    shard.Row // the newest heard
	inSync bool      // it names this member so
	term   uint64    // the highest heard of
	commit uint64    // as far as the shell was told to commit the log

	up      map[string]bool // members with a stream
	renewed time.Time       // when the last renewal that succeeded was sent

	leader leader // whom this member follows
	lead   *lead  // if this member leads
	relays bool   // it follows, and has followers itself
	handed int    // ticks for which the primary is waited for that the slot was handed to

	writing *Write      // its outcome is not known yet
	unsure  []shard.Row // written over row, outcome unknown for good
	refused *Write      // the last write, if refused and row not read since
	reading bool        // Read was asked for
	ticks   int         // since something was last repeated
}

// New returns the replica of a slot over its log: an empty one of no base, or
// what is left of an earlier life under the same log-id.
func New(cfg Config, log Log) *Replica {
	cfg.MinInSync = max(cfg.MinInSync, 1)
	for _, bound := range []struct {
		value     *int
		otherwise int
	}{
		{&cfg.Window, DefaultWindow},
		{&cfg.Batch, DefaultBatch},
		{&cfg.Piece, DefaultPiece},
		{&cfg.Patience, DefaultPatience},
		{&cfg.Probation, DefaultProbation},
	} {
		if *bound.value <= 0 {
			*bound.value = bound.otherwise
		}
	}
	return &Replica{
		cfg:    cfg,
		log:    log,
		born:   log.Term(),
		term:   log.Term(),
		commit: log.Committed(),
		up:     make(map[string]bool),
	}
}

// Row tells a row of the slot, as read or watched. Older ones are ignored.
func (r *Replica) Row(now time.Time, row shard.Row, out *Effects) {
	switch {
	case row.Version < r.row.Version:
		return
	case row.Version == r.row.Version:
		r.reread()
	default:
		r.reading, r.refused, r.unsure = false, nil, nil
		r.row, r.inSync = row, slices.Contains(row.InSync, r.cfg.Self)
		r.adopt(row.Term, out)
		r.takePlace(now, out)
	}
	r.proceed(now, out)
}

// takePlace makes of this member what the newest row says.
func (r *Replica) takePlace(now time.Time, out *Effects) {
	if r.lead != nil {
		r.recount(out)
		return
	}
	r.takeLead(now, out)
	r.part(out)
}

// adopt takes note of a term. Whoever leads or follows in a lower one stops.
func (r *Replica) adopt(term uint64, out *Effects) {
	if term <= r.term {
		return
	}
	r.term = term
	if err := r.log.Adopt(term); err != nil {
		out.alarm(Damaged, r.cfg.Self, err)
	}
	if r.lead != nil {
		out.Stop = true
		if r.lead.moving {
			r.handed = r.cfg.Patience
		}
		r.lead = nil
		r.log.Pin(NoPin)
	}
	if r.leader.name != "" {
		// Before anything else on this stream, so that what the old primary
		// hears on it later proves nothing about its term (R14).
		out.send(r.leader.name, &Refuse{Term: term, Version: r.row.Version, Round: r.leader.round})
	}
	r.leader = leader{}
}

// Up tells that a new stream to a member is up, and Down that it has ended.
func (r *Replica) Up(member string, out *Effects) {
	r.up[member] = true
	r.leader.up = r.up[r.leader.name]
	if p := r.peer(member); p != nil {
		p.lost, p.silent, p.quiet = false, 0, 0
		r.ask(p, out)
	}
}

// Down tells that the stream to a member has ended.
func (r *Replica) Down(member string) {
	delete(r.up, member)
	r.leader.up = r.up[r.leader.name]
	if p := r.peer(member); p != nil {
		p.reset()
		r.pin()
	}
}

// Lost tells that a member will not come back: another log-id is announced
// under its name, or nobody listens at its address any more.
func (r *Replica) Lost(now time.Time, member string, out *Effects) {
	if p := r.peer(member); p != nil {
		p.lost = true
		p.ban()
		r.proceed(now, out)
	}
}

// Receive tells a message of a member.
func (r *Replica) Receive(now time.Time, from string, m Message, out *Effects) {
	if p := r.peer(from); p != nil {
		p.quiet = 0
	}
	switch m := m.(type) {
	case *Lead:
		r.onLead(from, m, out)
	case *Append:
		r.onAppend(from, m, out)
	case *Piece:
		r.onPiece(from, m, out)
	case *Release:
		r.onRelease(from, m, out)
	case *State:
		r.onState(from, m, out)
	case *Ack:
		r.onAck(from, m, out)
	case *Refuse:
		r.onRefuse(from, m, out)
	case *Leave:
		r.onLeave(from, m, out)
	case *Watch:
		r.onWatch(now, from, m, out)
	case *Fresh:
		r.onFresh(from, m, out)
	}
	r.proceed(now, out)
}

// Appended tells that the shell appended to the log, after Admit let it.
func (r *Replica) Appended(now time.Time, out *Effects) {
	if r.lead == nil {
		return
	}
	for _, p := range r.lead.peers {
		r.feed(p, false, out)
	}
	r.proceed(now, out)
}

// Synced tells that Held of the log moved.
func (r *Replica) Synced(now time.Time, out *Effects) {
	r.takeLead(now, out)
	r.acknowledge(out)
	r.proceed(now, out)
}

// Tick tells that 100 ms have passed and that all events before were told; one
// that comes late counts once.
func (r *Replica) Tick(now time.Time, out *Effects) {
	r.ticks++
	r.handed = max(r.handed-1, 0)
	if r.lead != nil {
		for _, p := range r.lead.peers {
			r.tickPeer(p, out)
		}
		r.tickMove()
	}
	if r.ticks >= r.cfg.Patience {
		r.ticks = 0
		if r.row.Term < r.term || r.row.Primary == r.cfg.Self && r.lead == nil {
			r.read(out)
		}
		r.part(out)
	}
	r.proceed(now, out)
}

// Heard tells that a member has answered what was sent to it at a time, on the
// stream that is up, after everything else it sent before. (One message per
// stream does for all slots.)
func (r *Replica) Heard(member string, sent time.Time) {
	if p := r.peer(member); p != nil {
		p.quiet = 0
		if p.joined { // otherwise it may still have to say Refuse
			p.heard = sent
		}
	}
}

// Renewed tells that a renewal of this member's lease succeeded, and when it
// was sent. After a time without a lease every row must be read, and told,
// before the new lease counts.
func (r *Replica) Renewed(now, sent time.Time, out *Effects) {
	if sent.After(r.renewed) {
		r.renewed = sent
	}
	r.proceed(now, out)
}

// proceed does what an event may have made possible.
func (r *Replica) proceed(now time.Time, out *Effects) {
	if r.lead != nil {
		r.advance(now, out)
	}
	r.relay(out)
	r.plan(out)
}

// read asks for the row.
func (r *Replica) read(out *Effects) { out.Read, r.reading = true, true }

func (r *Replica) peer(member string) *peer {
	if r.lead == nil {
		return nil
	}
	i := slices.IndexFunc(r.lead.peers, func(p *peer) bool { return p.name == member })
	if i < 0 {
		return nil
	}
	return r.lead.peers[i]
}

func (r *Replica) names(member string) bool {
	return slices.Contains(r.row.InSync, member) || slices.Contains(r.row.Replicas, member)
}
