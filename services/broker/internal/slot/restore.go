package slot

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
)

// ErrSnapshot says that a piece is damaged, of another snapshot or log, or not
// the next one.
var ErrSnapshot = errors.New("not the next piece of the snapshot")

// restoring is a snapshot as far as it was read.
type restoring struct {
	cfg    Config
	offset uint64
	pieces int
	kind   byte  // of the last record
	time   int64 // of the last entry at offset

	terms terms
	keys  keys
	past  *history.Restorer // nil before the head
	key   struct {          // the last one
		offset uint64
		time   int64
	}
}

// Restore takes the pieces of a Snapshot in order; seq 0 begins, whatever came
// before. With the last one the log becomes what the snapshot holds, all of it
// committed, and stays as it was until then; its base and the adopted term are
// kept. A snapshot that ends below the commit mark is refused. After an error,
// of which each is ErrSnapshot, history.ErrInconsistent, history.ErrEncoding or
// ErrCommitted, begin again.
func (s *Slot) Restore(seq int, piece []byte, last bool) error {
	if seq == 0 {
		s.restoring = &restoring{cfg: s.cfg, keys: newKeys(s.cfg.Keys, s.cfg.KeyWindow.Milliseconds())}
	}
	r := s.restoring
	if r == nil || r.pieces != seq {
		s.restoring = nil
		return fmt.Errorf("restoring piece %d: %w", seq, ErrSnapshot)
	}
	err := r.read(piece)
	if err == nil && last {
		err = r.finish(s)
	}
	if err != nil || last {
		s.restoring = nil
	}
	if err != nil {
		return fmt.Errorf("restoring piece %d: %w", seq, err)
	}
	return nil
}

// finish makes a log what was read.
func (r *restoring) finish(s *Slot) error {
	switch {
	case r.kind != recordEnd:
		return fmt.Errorf("%w: the snapshot goes on after it", ErrSnapshot)
	case r.offset > r.cfg.Base && (len(r.terms) == 0 || r.terms[len(r.terms)-1].Last != r.offset):
		return fmt.Errorf("%w: its terms do not end where it does", ErrSnapshot)
	case r.offset < s.committed:
		return fmt.Errorf("%w: the snapshot ends at %d, the commit mark is %d", ErrCommitted, r.offset, s.committed)
	}
	journal := s.journal
	s.journal = nil // what is kept stays until the snapshot is
	s.Reset(r.cfg.Base)
	s.journal = journal
	s.hist, s.keys, s.terms = r.past.History(), r.keys, r.terms
	s.end, s.committed, s.settled = r.offset, r.offset, r.time
	if s.journal != nil {
		s.journal.Restore(s.Snapshot())
	}
	return nil
}

// read takes the next piece.
func (r *restoring) read(piece []byte) error {
	const sum = 4
	if len(piece) < sum || binary.BigEndian.Uint32(piece[len(piece)-sum:]) != checksum(piece[:len(piece)-sum]) {
		return fmt.Errorf("%w: its checksum is wrong", ErrSnapshot)
	}
	in := reader{rest: piece[:len(piece)-sum]}
	version, number, offset := in.byte(), in.number(), in.number()
	switch {
	case version != snapshotVersion:
		return fmt.Errorf("%w: it is of version %d, not %d", ErrSnapshot, version, snapshotVersion)
	case in.short, number != uint64(r.pieces), r.pieces > 0 && offset != r.offset, offset >= shard.MaxPosition:
		return fmt.Errorf("%w: it is piece %d of the snapshot at %d", ErrSnapshot, number, offset)
	}
	r.pieces++
	r.offset = offset
	for len(in.rest) > 0 {
		if err := r.record(&in); err != nil {
			return err
		}
	}
	return nil
}

func (r *restoring) record(in *reader) (err error) {
	kind := in.byte()
	if first := r.past == nil; kind < r.kind || r.kind == recordEnd || first != (kind == recordHead) {
		return fmt.Errorf("%w: record of kind %d after kind %d", ErrSnapshot, kind, r.kind)
	}
	r.kind = kind
	switch kind {
	case recordHead:
		err = r.head(in)
	case recordTerm:
		err = r.term(TermEnd{in.number(), in.number()})
	case recordTombstone:
		t := history.Tombstone{Last: in.number(), Time: int64(in.number()), Channel: string(in.bytes(in.number()))}
		err = r.past.Tombstone(t)
	case recordKey:
		k := key{offset: in.number(), time: int64(in.number()), digest: in.number()}
		copy(k.id[:], in.bytes(uint64(len(k.id))))
		err = r.known(k)
	case recordEntry:
		err = r.entry(in)
	case recordEnd:
	default:
		err = fmt.Errorf("%w: record of kind %d", ErrSnapshot, kind)
	}
	if in.short {
		return fmt.Errorf("%w: a record is cut short", ErrSnapshot)
	}
	return err
}

func (r *restoring) head(in *reader) (err error) {
	base, floor, dropped := in.number(), in.number(), in.number()
	r.time = int64(in.number())
	if base != r.cfg.Base {
		return fmt.Errorf("%w: it is of the log at base %d, not %d", ErrSnapshot, base, r.cfg.Base)
	}
	r.past, err = history.NewRestorer(r.cfg.Retention, r.offset, floor, dropped)
	return err
}

func (r *restoring) term(t TermEnd) error {
	last := TermEnd{Last: r.cfg.Base}
	if n := len(r.terms); n > 0 {
		last = r.terms[n-1]
	}
	if t.Term <= last.Term || t.Last <= last.Last || t.Last > r.offset {
		return fmt.Errorf("%w: term %d through %d after term %d through %d", ErrSnapshot, t.Term, t.Last, last.Term, last.Last)
	}
	r.terms = append(r.terms, t)
	return nil
}

// known takes the key of a committed entry.
func (r *restoring) known(k key) error {
	if k.offset <= max(r.key.offset, r.cfg.Base) || k.offset > r.offset || k.time < r.key.time || k.time > r.time {
		return fmt.Errorf("%w: key of entry %d after %d", ErrSnapshot, k.offset, r.key.offset)
	}
	r.key.offset, r.key.time = k.offset, k.time
	r.keys.add(k)
	r.keys.settle(k.time)
	return nil
}

func (r *restoring) entry(in *reader) error {
	var e history.Entry
	size, err := e.Decode(in.rest)
	if err != nil {
		return err
	}
	in.rest = in.rest[size:]
	if e.Time > r.time {
		return fmt.Errorf("%w: entry %d of %d ms, but the last is of %d ms", ErrSnapshot, e.Offset, e.Time, r.time)
	}
	return r.past.Entry(&e)
}

// reader reads numbers and texts; short says that there were too few bytes.
type reader struct {
	rest  []byte
	short bool
}

func (r *reader) byte() byte {
	if b := r.bytes(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

func (r *reader) number() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.rest, r.short = nil, true
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.rest, r.short = nil, true
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}
