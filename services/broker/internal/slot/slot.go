package slot

import (
	"time"

	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
)

// The bounds of a slot unless Config says otherwise.
const (
	DefaultUncommittedBytes = 8 << 20
	DefaultKeyWindow        = 5 * time.Minute
	DefaultKeys             = 16384
)

// Slot is one slot's log. Guarded by the caller's lock.
type Slot struct {
	cfg   Config
	hist  *history.History
	keys  keys
	terms terms

	restoring *restoring // nil: no snapshot is being read
	journal   Journal    // nil: the log ends with the process

	term      uint64           // of what is appended here
	end       uint64           // offset of the last entry
	committed uint64           // the commit mark
	settled   int64            // time of the last committed entry
	tail      []*history.Entry // (committed, end]
	waiting   int              // cost of the tail
	heads     heads            // of the channels in the tail
}

// New returns an empty log.
func New(cfg Config) *Slot {
	if cfg.UncommittedBytes <= 0 {
		cfg.UncommittedBytes = DefaultUncommittedBytes
	}
	if cfg.KeyWindow <= 0 {
		cfg.KeyWindow = DefaultKeyWindow
	}
	if cfg.Keys <= 0 {
		cfg.Keys = DefaultKeys
	}
	cfg.Retention.LogBytes = cfg.LogBytes
	s := &Slot{cfg: cfg, term: cfg.Term}
	s.Reset(cfg.Base)
	return s
}

// Append appends a publication, or finds it by its key. It may end the
// validity of what Commit returned.
func (s *Slot) Append(p Publication, now time.Time) (Result, error) {
	clock := max(s.lastTime(), now.UnixMilli())
	var id keyID
	var sum uint64
	if p.Key != "" {
		id, sum = s.keys.id(p.Channel, p.Key), digest(p.Data, p.Ext, p.Members)
		if seen := s.seen(&p, id, clock); seen != nil {
			if seen.digest != sum {
				return Result{}, ErrKeyReused
			}
			return Result{Offset: seen.offset, Duplicate: true}, nil
		}
	}
	at := s.hist.Tail(p.Channel)
	e := s.entry(&p, at, clock)
	switch {
	case s.term < s.terms.newest():
		return Result{}, ErrOldTerm
	case at.Class.MessageBytes > 0 && e.Payload() > at.Class.MessageBytes:
		return Result{}, ErrTooLarge
	case s.waiting > 0 && s.waiting+e.Cost() > s.cfg.UncommittedBytes, s.journal != nil && s.journal.Full():
		return Result{}, ErrBusy
	case e.Offset >= shard.MaxPosition:
		return Result{}, ErrExhausted
	}
	s.push(e.Seal())
	if p.Key != "" {
		s.keys.add(key{id: id, digest: sum, offset: e.Offset, time: e.Time})
	}
	return Result{Offset: s.end}, nil
}

// seen returns the key of a publication if it was published before, or nil.
func (s *Slot) seen(p *Publication, id keyID, clock int64) *key {
	if p.Fresh {
		return nil
	}
	return s.keys.find(id, clock)
}

// entry is a publication as the next entry of the log.
func (s *Slot) entry(p *Publication, at history.Tail, clock int64) history.Entry {
	if head := s.heads.of(p.Channel, s.tail); head > 0 && at.Class.Retains() {
		at.Prev = head
	}
	return history.Entry{
		Channel: at.Name,
		Offset:  s.end + 1,
		Prev:    at.Prev,
		Term:    s.term,
		Time:    clock,
		Data:    p.Data,
		Ext:     p.Ext,
		Members: p.Members,
		Session: p.Session,
		ID:      p.ID,
		Key:     p.Key,
	}
}

func (s *Slot) push(e *history.Entry) {
	s.end = e.Offset
	s.tail = append(s.tail, e)
	s.heads.push(e)
	s.waiting += e.Cost()
	s.terms = s.terms.push(e.Term, e.Offset)
	if s.journal != nil {
		s.journal.Append(e)
	}
}

// lastTime is the time of the last entry.
func (s *Slot) lastTime() int64 {
	if n := len(s.tail); n > 0 {
		return s.tail[n-1].Time
	}
	return s.settled
}

// Commit moves the commit mark up to an offset, if that is ahead, and returns
// the entries it passed. The slice is valid until the log changes again.
func (s *Slot) Commit(upto uint64) []*history.Entry {
	upto = min(upto, s.end)
	if upto <= s.committed {
		return nil
	}
	passed := s.tail[:upto-s.committed]
	for _, e := range passed {
		s.hist.Add(e)
		s.waiting -= e.Cost()
		s.heads.pop(e)
		if e.Key != "" {
			s.keys.settle(e.Time)
		}
	}
	s.committed, s.settled = upto, passed[len(passed)-1].Time
	if s.journal != nil {
		s.journal.Commit(upto)
	}
	s.terms = s.terms.merge(s.Start())
	if s.tail = s.tail[len(passed):]; len(s.tail) == 0 {
		s.tail = passed[:0] // use the array again
		s.heads.reset()
	}
	return passed
}

// Read answers a query. ErrAhead: wait for the next commit and ask again.
func (s *Slot) Read(q history.Query) (history.Page, error) {
	if !q.Earliest {
		switch {
		case !s.Valid(q.Since):
			return history.Page{Through: s.committed, Lost: true, Gone: q.Names}, nil
		case q.Since > s.committed:
			return history.Page{}, ErrAhead
		}
	}
	if q.Limit == 0 {
		return history.Page{Through: s.committed}, nil
	}
	return s.hist.Read(q), nil
}

// Expire drops what is too old at now, at most about budget steps, and reports
// whether more is left to drop.
func (s *Slot) Expire(now time.Time, budget int) bool {
	s.keys.expire(now.UnixMilli())
	return s.hist.Expire(now, budget)
}

// Valid reports whether a position belongs to this log.
func (s *Slot) Valid(position uint64) bool { return s.cfg.Base <= position && position <= s.end }

// Term is the highest term adopted: that of what is appended.
func (s *Slot) Term() uint64 { return s.term }

// Base is the offset before the first entry.
func (s *Slot) Base() uint64 { return s.cfg.Base }

// End is the offset of the last entry, committed or not.
func (s *Slot) End() uint64 { return s.end }

// Held is how far the log is there again when its member comes back with the
// same log-id: in memory all of it.
func (s *Slot) Held() uint64 {
	if s.journal != nil {
		return s.journal.Held()
	}
	return s.end
}

// Committed is the commit mark.
func (s *Slot) Committed() uint64 { return s.committed }

// Uncommitted is the cost of the entries that wait for their commit.
func (s *Slot) Uncommitted() int { return s.waiting }

// History is what is retained of the committed log.
func (s *Slot) History() *history.History { return s.hist }
