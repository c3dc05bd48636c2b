package replica

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/comet-push/comet/services/broker/internal/history"
	"github.com/comet-push/comet/services/broker/internal/slot"
)

// simLog is a Log that remembers everything it was told, and tells a ledger
// what must never happen. On a disk, what was not synced goes with a crash.
type simLog struct {
	book   *ledger
	member string
	keep   uint64 // how many committed entries are replicated
	disk   bool

	image          // as it is now
	synced  image  // as it will be after a crash
	held    uint64 // how far the two agree
	durable bool   // base and term are synced

	pin    uint64
	pieces []image // of a snapshot being restored

	real *slot.Slot // does all the same, if there is one
}

// image is what there is of a log. Entries are only ever appended to the
// shared array, so that images may share it.
type image struct {
	base, term, commit uint64
	entries            []*history.Entry
	keys               map[string]uint64 // of the entries
}

func newSimLog(book *ledger, member string, keep uint64, disk bool) *simLog {
	l := &simLog{book: book, member: member, keep: keep, disk: disk, pin: NoPin}
	l.keys = map[string]uint64{}
	l.durable = true
	if book.real {
		l.real = slot.New(slot.Config{
			LogBytes:  int(keep) * 200,
			Retention: history.Config{Class: func(string) history.Class { return history.Class{Messages: 1000} }},
		})
	}
	return l
}

func (l *simLog) end() uint64 { return l.base + uint64(len(l.entries)) }

func (l *simLog) at(offset uint64) *history.Entry { return l.entries[offset-l.base-1] }

func (i *image) clone() image {
	c := *i
	c.entries = slices.Clone(i.entries)
	c.keys = make(map[string]uint64, len(i.keys))
	for _, e := range c.entries {
		c.keys[e.Key] = e.Offset
	}
	return c
}

// append is what the shell does with a publish at the primary.
func (l *simLog) append(channel, key string) (offset uint64, duplicate bool) {
	offset, duplicate = l.keys[key]
	e := &history.Entry{Channel: channel, Key: key, Offset: l.end() + 1, Term: l.term, Data: []byte(key)}
	if l.real != nil {
		got, err := l.real.Append(slot.Publication{Channel: channel, Key: key, Data: e.Data}, l.book.clock())
		l.book.require(err == nil && got.Duplicate == duplicate && (!duplicate || got.Offset == offset),
			"R13: %s: append of %s: %+v, %v, want %d %v", l.member, key, got, err, offset, duplicate)
		if !duplicate {
			e = l.real.After(l.end(), 1)[0]
		}
	}
	if duplicate {
		return offset, true
	}
	l.book.appended(l, e)
	l.push(e)
	return e.Offset, false
}

func (l *simLog) push(e *history.Entry) {
	l.entries = append(l.entries, e)
	l.keys[e.Key] = e.Offset
}

// sync makes the log durable as it is.
func (l *simLog) sync() {
	l.synced = l.clone()
	l.held, l.durable = l.end(), true
}

// crash takes away what is not synced.
func (l *simLog) crash() {
	l.image = l.synced.clone()
	l.held, l.durable = l.end(), true
	l.pieces, l.pin = nil, NoPin
}

// commitTo is what the shell does when the machine says Commit.
func (l *simLog) commitTo(upto uint64) {
	if l.real != nil {
		passed := l.real.Commit(upto)
		l.book.require(uint64(len(passed)) == upto-l.commit, "R9: %s passes %d entries from %d to %d", l.member, len(passed), l.commit, upto)
		for i, e := range passed {
			l.book.require(same(e, l.at(l.commit+1+uint64(i))), "R9: %s passes %+v", l.member, e)
		}
	}
	l.commit = upto
}

// read is a reader's view of all after a position; ok is false if it must wait.
func (l *simLog) read(since uint64) (entries []*history.Entry, ok bool) {
	if l.real == nil {
		if since > l.commit {
			return nil, false
		}
		return l.entries[since-l.base : l.commit-l.base], true
	}
	page, err := l.real.Read(history.Query{Names: []string{"/**"}, Since: since, Limit: 1 << 20})
	if since > l.commit && errors.Is(err, slot.ErrAhead) {
		return nil, false
	}
	l.book.require(err == nil && !page.Lost && len(page.Gone) == 0 && page.Through == l.commit,
		"R11: %s: reading after %d of (%d, %d]: %+v, %v", l.member, since, l.base, l.commit, page, err)
	return page.Entries, true
}

func (l *simLog) Base() uint64      { return l.base }
func (l *simLog) End() uint64       { return l.end() }
func (l *simLog) Committed() uint64 { return l.commit }
func (l *simLog) Term() uint64      { return l.term }

func (l *simLog) Pin(offset uint64) {
	l.pin = offset
	if l.real != nil {
		l.real.Pin(offset)
	}
}

func (l *simLog) Reset(base uint64) {
	l.book.reset(l)
	l.image = image{base: base, term: l.term, commit: base, keys: map[string]uint64{}}
	l.held, l.durable = base, false
	l.pin, l.pieces = NoPin, nil
	if l.real != nil {
		l.real.Reset(base)
	}
}

func (l *simLog) Held() uint64 {
	switch {
	case !l.disk:
		return l.end()
	case !l.durable:
		return 0
	}
	return l.held
}

func (l *simLog) Start() uint64 {
	if l.real != nil {
		return l.real.Start()
	}
	return max(l.base, min(l.pin, l.commit-min(l.keep, l.commit-l.base)))
}

func (l *simLog) Terms() []TermEnd {
	var terms []TermEnd
	for _, e := range l.entries {
		if n := len(terms); n > 0 && terms[n-1].Term == e.Term {
			terms[n-1].Last = e.Offset
		} else {
			terms = append(terms, TermEnd{Term: e.Term, Last: e.Offset})
		}
	}
	start := l.Start()
	if l.real != nil {
		got := l.real.Terms()
		l.book.require(slices.Equal(got, terms), "R5: %s: terms %v, want %v", l.member, got, terms)
		return got
	}
	return slices.DeleteFunc(terms, func(t TermEnd) bool { return t.Last < start })
}

func (l *simLog) After(offset uint64, bytes int) []*history.Entry {
	l.book.require(offset >= l.Start() && offset <= l.end(), "%s: entries after %d were asked for", l.member, offset)
	var after []*history.Entry
	bytes0 := bytes
	for _, e := range l.entries[offset-l.base:] {
		if bytes -= e.Cost(); bytes < 0 && len(after) > 0 {
			break
		}
		after = append(after, e)
	}
	if l.real != nil {
		got := l.real.After(offset, bytes0)
		l.book.require(slices.EqualFunc(got, after, same), "R5: %s: entries after %d: %+v, want %+v", l.member, offset, got, after)
		return got
	}
	return after
}

func (l *simLog) Adopt(term uint64) error {
	l.book.require(term >= l.term, "%s adopts term %d after %d", l.member, term, l.term)
	l.term, l.durable = term, false
	if l.real != nil {
		return l.real.Adopt(term)
	}
	return nil
}

func (l *simLog) Replicate(e *history.Entry) error {
	l.book.require(e.Offset == l.end()+1, "%s: a hole at %d, the log ends at %d", l.member, e.Offset, l.end())
	l.book.replicated(l, e)
	l.push(e)
	if l.real != nil {
		return l.real.Replicate(e)
	}
	return nil
}

func (l *simLog) Cut(after uint64) error {
	l.book.require(after >= l.commit, "%s cuts after %d, below its commit mark %d", l.member, after, l.commit)
	for _, e := range l.entries[after-l.base:] {
		l.book.cut(l, e)
		delete(l.keys, e.Key)
	}
	l.entries = slices.Clip(l.entries[:after-l.base])
	l.held = min(l.held, after)
	if l.real != nil {
		return l.real.Cut(after)
	}
	return nil
}

func (l *simLog) Snapshot() (offset uint64, next func(bytes int) []byte) {
	const each = 3
	pieces := slices.Collect(slices.Chunk(l.entries[:l.commit-l.base], each))
	if len(pieces) == 0 {
		pieces = append(pieces, nil)
	}
	if l.real != nil {
		real, more := l.real.Snapshot()
		l.book.require(real == l.commit, "R10: %s: a snapshot up to %d, not %d", l.member, real, l.commit)
		all := slices.Concat(pieces...)
		return l.commit, func(bytes int) []byte {
			piece := more(bytes)
			if piece == nil {
				return nil
			}
			piece = append(l.book.pack(all), piece...)
			all = nil
			return piece
		}
	}
	return l.commit, func(int) []byte {
		if len(pieces) == 0 {
			return nil
		}
		first := pieces[0]
		pieces = pieces[1:]
		return l.book.pack(first)
	}
}

func (l *simLog) Restore(seq int, piece []byte, last bool) error {
	if seq == 0 {
		l.pieces = nil
	}
	l.book.require(seq == len(l.pieces), "%s: piece %d after %d", l.member, seq, len(l.pieces))
	entries, rest := l.book.unpack(piece)
	l.pieces = append(l.pieces, image{entries: entries})
	if l.real != nil {
		if err := l.real.Restore(seq, rest, last); err != nil {
			return err
		}
	}
	if !last {
		return nil
	}
	next := image{base: l.base, term: l.term, keys: map[string]uint64{}}
	for _, p := range l.pieces {
		for _, e := range p.entries {
			next.entries = append(next.entries, e)
			next.keys[e.Key] = e.Offset
		}
	}
	next.commit = next.base + uint64(len(next.entries))
	l.book.restored(l, &next)
	l.image, l.pieces = next, nil
	l.held = l.base
	if r := l.real; r != nil {
		l.book.require(r.Committed() == l.commit && r.End() == l.commit && r.Base() == l.base && r.Term() == l.term,
			"R10: %s: restored (%d, %d, %d] term %d, want (%d, %d] term %d",
			l.member, r.Base(), r.Committed(), r.End(), r.Term(), l.base, l.commit, l.term)
	}
	return nil
}

// pack stands for encoding: the book keeps what the bytes name.
func (b *ledger) pack(entries []*history.Entry) []byte {
	b.packed = append(b.packed, entries)
	return binary.AppendUvarint(nil, uint64(len(b.packed)-1))
}

func (b *ledger) unpack(piece []byte) (entries []*history.Entry, rest []byte) {
	n, size := binary.Uvarint(piece)
	return b.packed[n], piece[size:]
}

// same reports whether two entries are one.
func same(a, b *history.Entry) bool {
	return a == b || a.Offset == b.Offset && a.Term == b.Term && a.Prev == b.Prev && a.Time == b.Time &&
		a.Channel == b.Channel && a.Key == b.Key && string(a.Data) == string(b.Data)
}
