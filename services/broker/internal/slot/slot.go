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
	cfg  Config
	hist *history.History
	keys keys

	clock     int64             // milliseconds; the highest time seen
	end       uint64            // offset of the last entry
	committed uint64            // the commit mark
	tail      []*history.Entry  // (committed, end]
	waiting   int               // payload of the tail
	heads     map[string]uint64 // last offset of each channel in the tail
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
	cfg.Retention.Base = cfg.Base
	return &Slot{
		cfg:       cfg,
		hist:      history.New(cfg.Retention),
		keys:      newKeys(cfg.Keys),
		end:       cfg.Base,
		committed: cfg.Base,
		heads:     make(map[string]uint64),
	}
}

// Append appends a publication, or finds it by its key. It may end the
// validity of what Commit returned.
func (s *Slot) Append(p Publication, now time.Time) (Result, error) {
	s.tick(now)
	var k key
	if p.Key != "" {
		k = s.keys.key(&p)
		if seen, ok := s.keys.byID[k.id]; ok {
			if seen.digest != k.digest {
				return Result{}, ErrKeyReused
			}
			return Result{Offset: seen.offset, Duplicate: true}, nil
		}
	}
	at := s.hist.Tail(p.Channel)
	size := len(p.Data) + len(p.Ext) + len(p.Members)
	switch {
	case at.Class.MessageBytes > 0 && size > at.Class.MessageBytes:
		return Result{}, ErrTooLarge
	case s.waiting > 0 && s.waiting+size > s.cfg.UncommittedBytes:
		return Result{}, ErrBusy
	case s.end+1 >= shard.MaxPosition:
		return Result{}, ErrExhausted
	}
	s.push(p, at, size)
	if p.Key != "" {
		s.keys.add(k, s.end, s.clock)
	}
	return Result{Offset: s.end}, nil
}

func (s *Slot) push(p Publication, at history.Tail, size int) {
	if head, ok := s.heads[p.Channel]; ok && at.Class.Retains() {
		at.Prev = head
	}
	s.end++
	s.tail = append(s.tail, &history.Entry{
		Channel: at.Name,
		Offset:  s.end,
		Prev:    at.Prev,
		Term:    s.cfg.Term,
		Time:    s.clock,
		Data:    p.Data,
		Ext:     p.Ext,
		Members: p.Members,
		Session: p.Session,
		ID:      p.ID,
		Key:     p.Key,
	})
	s.heads[at.Name] = s.end
	s.waiting += size
}

// Commit moves the commit mark up to an offset, if that is ahead, and returns
// the entries it passed. The slice is valid until the next Append.
func (s *Slot) Commit(upto uint64) []*history.Entry {
	upto = min(upto, s.end)
	if upto <= s.committed {
		return nil
	}
	passed := s.tail[:upto-s.committed]
	for _, e := range passed {
		s.hist.Add(e)
		s.waiting -= e.Payload()
		if s.heads[e.Channel] == e.Offset {
			delete(s.heads, e.Channel)
		}
	}
	s.committed = upto
	if s.tail = s.tail[len(passed):]; len(s.tail) == 0 {
		s.tail = passed[:0] // use the array again
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
	s.tick(now)
	return s.hist.Expire(time.UnixMilli(s.clock), budget)
}

func (s *Slot) tick(now time.Time) {
	s.clock = max(s.clock, now.UnixMilli())
	s.keys.expire(s.clock - s.cfg.KeyWindow.Milliseconds())
}

// Valid reports whether a position belongs to this log.
func (s *Slot) Valid(position uint64) bool { return s.cfg.Base <= position && position <= s.end }

// Term is the primary's term.
func (s *Slot) Term() uint64 { return s.cfg.Term }

// Base is the offset before the first entry.
func (s *Slot) Base() uint64 { return s.cfg.Base }

// End is the offset of the last entry, committed or not.
func (s *Slot) End() uint64 { return s.end }

// Committed is the commit mark.
func (s *Slot) Committed() uint64 { return s.committed }

// History is what is retained of the committed log.
func (s *Slot) History() *history.History { return s.hist }
