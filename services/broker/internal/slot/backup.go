package slot

import (
	"fmt"
	"slices"

	"github.com/comet-push/comet/services/broker/internal/history"
)

// Reset empties the log, which begins after a base then; with 0 there is none.
// The term adopted stays.
func (s *Slot) Reset(base uint64) {
	s.cfg.Base, s.cfg.Retention.Base = base, base
	s.hist = history.New(s.cfg.Retention)
	s.keys = newKeys(s.cfg.Keys, s.cfg.KeyWindow.Milliseconds())
	s.terms = nil
	s.end, s.committed, s.settled = base, base, 0
	s.restoring = nil
	s.tail, s.waiting = nil, 0
	s.heads.reset()
	if s.journal != nil {
		s.journal.Reset(base)
	}
}

// Replicate appends the next entry of the log as the primary made it. What is
// not the next entry is refused with an error that names the offset needed.
func (s *Slot) Replicate(e *history.Entry) error {
	switch {
	case e.Offset != s.end+1:
		return fmt.Errorf("entry %d of term %d: %w: the log needs %d next", e.Offset, e.Term, ErrNotNext, s.end+1)
	case e.Term < s.terms.newest():
		return fmt.Errorf("entry %d of term %d: %w: the log needs %d of term %d or a later one",
			e.Offset, e.Term, ErrOldTerm, s.end+1, s.terms.newest())
	case e.Prev >= e.Offset:
		return fmt.Errorf("entry %d after %d of its channel: %w", e.Offset, e.Prev, ErrPrev)
	case e.Time < s.lastTime():
		return fmt.Errorf("entry %d of %d ms: %w: the log needs %d of %d ms or later",
			e.Offset, e.Time, ErrOldTime, s.end+1, s.lastTime())
	}
	s.push(e)
	if e.Key != "" {
		s.keys.add(key{
			id: s.keys.id(e.Channel, e.Key), digest: digest(e.Data, e.Ext, e.Members), offset: e.Offset, time: e.Time,
		})
	}
	return nil
}

// Cut removes the entries after an offset, as if they had never been appended.
// To cut what is committed is refused: it would be a bug of the caller.
func (s *Slot) Cut(after uint64) error {
	if after < s.committed {
		return fmt.Errorf("cutting after %d: %w: the commit mark is %d", after, ErrCommitted, s.committed)
	}
	if after >= s.end {
		return nil
	}
	kept := int(after - s.committed)
	for i := len(s.tail) - 1; i >= kept; i-- {
		if s.tail[i].Key != "" {
			s.keys.undo()
		}
		s.waiting -= s.tail[i].Cost()
	}
	clear(s.tail[kept:])
	s.tail = s.tail[:kept]
	s.heads.reset()
	s.terms = s.terms.cut(s.cfg.Base, after)
	s.end = after
	if s.journal != nil {
		s.journal.Cut(after)
	}
	return nil
}

// Adopt makes a term that of the entries appended from now on. One below Term,
// or that of the last entry, is refused.
func (s *Slot) Adopt(term uint64) error {
	if known := max(s.term, s.terms.newest()); term < known {
		return fmt.Errorf("adopting term %d: %w: the log knows term %d", term, ErrOldTerm, known)
	}
	if s.term == term {
		return nil
	}
	s.term = term
	if s.journal != nil {
		s.journal.Adopt(term)
	}
	return nil
}

// Terms returns where each term of the log's entries ends, oldest first; a term
// without entries is not there. Of very many terms those that end before Start
// may be missing.
func (s *Slot) Terms() []TermEnd { return slices.Clone(s.terms) }

// Start is the offset after which After can tell, at most Committed.
func (s *Slot) Start() uint64 { return s.hist.Start() }

// After returns the entries after an offset, Start ≤ offset ≤ End: as many as
// cost about the given bytes, at least one if there is one.
func (s *Slot) After(offset uint64, bytes int) []*history.Entry {
	var after []*history.Entry
	if offset < s.committed {
		after = s.hist.Log(offset, bytes)
		if offset += uint64(len(after)); offset < s.committed {
			return after
		}
		for _, e := range after {
			bytes -= e.Cost()
		}
	}
	for _, e := range s.tail[offset-s.committed:] {
		if bytes -= e.Cost(); bytes < 0 && len(after) > 0 {
			break
		}
		after = append(after, e)
	}
	return after
}

// Pin keeps the entries after an offset for After, though they be old, until
// the next Pin or Reset, but not more than four times what is kept otherwise.
// The highest offset there is pins nothing.
func (s *Slot) Pin(offset uint64) { s.hist.Pin(offset) }
