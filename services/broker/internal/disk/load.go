package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
	"github.com/comet-push/comet/services/broker/internal/slot"
)

// Load makes an empty log the one that is kept of a slot, and keeps it from
// then on. It is called once for each slot, before Run; for different slots at
// the same time. If it returns an error the log is not to be used.
func (s *Store) Load(n shard.Slot, log *slot.Slot) (*Journal, error) {
	j := s.journals[n]
	if err := j.load(log); err != nil {
		return nil, fmt.Errorf("load slot %d: %w", n, err)
	}
	log.Keep(j)
	return j, nil
}

func (j *Journal) load(log *slot.Slot) error {
	kept := &j.writer.state
	value, err := j.store.get(keyOfState(j.number))
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		return nil
	case err != nil:
		return judged(err)
	}
	if err := kept.decode(value); err != nil {
		return judged(err)
	}
	log.Reset(kept.base)
	if err := j.loadCheckpoint(log); err != nil {
		return judged(err)
	}
	if err := j.loadEntries(log); err != nil {
		return judged(err)
	}
	if log.End() != kept.end {
		return fmt.Errorf("%w (it ends at %d, not %d)", ErrDamaged, log.End(), kept.end)
	}
	if err := log.Adopt(kept.term); err != nil {
		return fmt.Errorf("%w (%w)", ErrDamaged, err)
	}
	log.Commit(kept.commit)
	j.base, j.commit, j.held = kept.base, kept.commit, kept.end
	j.writer.last = kept.generation
	return nil
}

// loadCheckpoint restores the log from the pieces of the checkpoint, and
// forgets those of others.
func (j *Journal) loadCheckpoint(log *slot.Slot) error {
	kept := &j.writer.state
	for sequence := range kept.pieces {
		piece, err := j.store.get(keyOfPiece(j.number, kept.generation, uint32(sequence)))
		if errors.Is(err, pebble.ErrNotFound) {
			return fmt.Errorf("%w: piece %d of the checkpoint is missing", errInvalid, sequence)
		}
		if err != nil {
			return fmt.Errorf("read the checkpoint: %w", err)
		}
		if err := log.Restore(int(sequence), piece, sequence+1 == kept.pieces); err != nil {
			return fmt.Errorf("%w: %w", errInvalid, err)
		}
	}
	if log.End() != kept.offset {
		return fmt.Errorf("%w: the checkpoint ends at %d, not %d", errInvalid, log.End(), kept.offset)
	}
	return nil
}

// loadEntries appends the entries after the checkpoint.
func (j *Journal) loadEntries(log *slot.Slot) (err error) {
	it, err := j.store.db.NewIter(&pebble.IterOptions{LowerBound: keyOfEntry(j.number, 0), UpperBound: afterEntries(j.number)})
	if err != nil {
		return fmt.Errorf("read entries: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for valid := it.First(); valid; valid = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("read entries: %w", err)
		}
		e := new(history.Entry)
		size, err := e.Decode(bytes.Clone(value))
		if err != nil || size != len(value) || e.Offset != binary.BigEndian.Uint64(it.Key()[3:]) {
			return fmt.Errorf("%w: the entry after %d: %w", errInvalid, log.End(), err)
		}
		if err := log.Replicate(e); err != nil {
			return fmt.Errorf("%w: %w", errInvalid, err)
		}
		j.writer.grown += size
	}
	if err := it.Error(); err != nil {
		return fmt.Errorf("read entries: %w", err)
	}
	return nil
}
