package disk

import (
	"github.com/cockroachdb/pebble/v2"
)

// maxSnapshots is how many checkpoints are written at a time; each keeps memory
// from being used again.
const maxSnapshots = 4

// pace says how much is written at a time, in bytes.
type pace struct {
	batch      int // about
	piece      int // of a checkpoint, about
	turn       int // of checkpoints between what logs wait for
	checkpoint int // of a log, at least, between one checkpoint and the next
}

func usualPace() pace {
	return pace{batch: 4 << 20, piece: 64 << 10, turn: 256 << 10, checkpoint: 4 << 20}
}

// writer writes one slot's changes.
type writer struct {
	todo  []change // in order
	state state
	grown int    // bytes of entries since the checkpoint
	last  uint64 // the highest generation
	done  uint64 // changes written

	snapshot *snapshot // on its way to be the checkpoint
	asked    bool      // for one
	text     []byte    // scratch
}

// snapshot is a checkpoint that is being written.
type snapshot struct {
	generation, offset uint64
	next               func(bytes int) []byte
	replaces           bool // all that is kept, also what comes after offset
	pieces, size       uint64
	grown              int // when it was begun
}

// apply writes what is to be done, up to a snapshot that has to be written
// before the rest, and returns what that cost.
func (j *Journal) apply(b *pebble.Batch) (cost int, err error) {
	w := &j.writer
	applied := 0
	for ; applied < len(w.todo) && !w.blocked(); applied++ {
		c := &w.todo[applied]
		cost += c.cost()
		if err := j.change(b, c); err != nil {
			return cost, err
		}
		if !w.blocked() {
			w.done, w.state.commit = c.number, min(c.commit, w.state.end)
		}
	}
	if applied == 0 {
		return 0, nil
	}
	rest := copy(w.todo, w.todo[applied:])
	clear(w.todo[rest:])
	w.todo = w.todo[:rest]
	return cost, j.writeState(b)
}

// blocked: what comes next belongs to a log that is not there yet.
func (w *writer) blocked() bool { return w.snapshot != nil && w.snapshot.replaces }

func (j *Journal) change(b *pebble.Batch, c *change) error {
	w := &j.writer
	switch c.kind {
	case reset:
		if err := j.drop(b); err != nil {
			return err
		}
		w.state = state{base: c.offset, term: w.state.term, commit: c.offset, end: c.offset, offset: c.offset}
		w.grown = 0
		return j.deleteEntries(b, 0)
	case adopt:
		w.state.term = c.offset
	case add:
		w.text = c.entry.AppendTo(w.text[:0])
		w.state.end = c.offset
		w.grown += len(w.text)
		return b.Set(keyOfEntry(j.number, c.offset), w.text, nil) //nolint:wrapcheck // the caller says what was done
	case cut:
		w.state.end = c.offset
		return j.deleteEntries(b, c.offset+1)
	case restore, checkpoint:
		w.asked = false
		if w.state.base == 0 {
			break // the log was dropped
		}
		w.last++
		w.snapshot = &snapshot{
			generation: w.last, offset: c.offset, next: c.next, replaces: c.kind == restore, grown: w.grown,
		}
	}
	return nil
}

func (j *Journal) deleteEntries(b *pebble.Batch, from uint64) error {
	return b.DeleteRange(keyOfEntry(j.number, from), afterEntries(j.number), nil)
}

// drop forgets the checkpoint, and one that is on its way.
func (j *Journal) drop(b *pebble.Batch) error {
	j.writer.snapshot, j.writer.asked = nil, false
	return b.DeleteRange(keyOfPiece(j.number, 0, 0), afterPieces(j.number), nil)
}

func (j *Journal) writeState(b *pebble.Batch) error {
	w := &j.writer
	w.text = w.state.appendTo(w.text[:0])
	return b.Set(keyOfState(j.number), w.text, nil)
}

// proceed writes the next pieces of a snapshot, if there is one, and makes it
// the checkpoint with the last; it returns how much it wrote.
func (j *Journal) proceed(b *pebble.Batch, bytes int) (written int, err error) {
	w := &j.writer
	for s := w.snapshot; s != nil && written < bytes; {
		piece := s.next(j.store.pace.piece)
		if piece == nil {
			return written, j.finish(b)
		}
		if err := b.Set(keyOfPiece(j.number, s.generation, uint32(s.pieces)), piece, nil); err != nil {
			return written, err
		}
		s.pieces++
		s.size += uint64(len(piece))
		written += len(piece)
	}
	return written, nil
}

// finish makes the snapshot the checkpoint.
func (j *Journal) finish(b *pebble.Batch) error {
	w := &j.writer
	s := w.snapshot
	w.snapshot = nil
	w.state.generation, w.state.offset, w.state.pieces, w.state.size = s.generation, s.offset, s.pieces, s.size
	w.grown -= s.grown
	from, to := keyOfEntry(j.number, 0), keyOfEntry(j.number, s.offset+1)
	if s.replaces {
		to = afterEntries(j.number)
		w.state.end, w.state.commit, w.grown = s.offset, s.offset, 0
		w.done++ // the change that brought it
	}
	w.state.commit = max(w.state.commit, s.offset)
	if err := b.DeleteRange(from, to, nil); err != nil {
		return err
	}
	if err := b.DeleteRange(keyOfPiece(j.number, 0, 0), keyOfPiece(j.number, s.generation, 0), nil); err != nil {
		return err
	}
	return j.writeState(b)
}

// outgrown reports whether the log needs a new checkpoint.
func (w *writer) outgrown(least int) bool {
	return !w.asked && w.snapshot == nil && w.state.base > 0 && w.grown > max(least, int(w.state.size))
}
