package disk

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/comet-push/comet/internal/shard"
)

// The keys of the store. Numbers in them are big endian, so that they are in
// the order of their numbers.
//
//	i                            identity, JSON
//	n                            how many batches were written (8 bytes, big endian)
//	s slot                       state of the slot
//	p slot generation sequence   a piece of a checkpoint, as package slot has it
//	e slot offset                an entry, as package history encodes it
const (
	identityKey = 'i'
	countKey    = 'n'
	stateKey    = 's'
	pieceKey    = 'p'
	entryKey    = 'e'
)

func keyOfState(n shard.Slot) []byte {
	return binary.BigEndian.AppendUint16([]byte{stateKey}, uint16(n))
}

func keyOfEntry(n shard.Slot, offset uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint16([]byte{entryKey}, uint16(n)), offset)
}

// afterEntries is behind the keys of all entries of a slot.
func afterEntries(n shard.Slot) []byte { return keyOfEntry(n+1, 0) }

func keyOfPiece(n shard.Slot, generation uint64, sequence uint32) []byte {
	key := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint16([]byte{pieceKey}, uint16(n)), generation)
	return binary.BigEndian.AppendUint32(key, sequence)
}

// afterPieces is behind the keys of all pieces of a slot.
func afterPieces(n shard.Slot) []byte { return keyOfPiece(n+1, 0, 0) }

// state is what is kept of a slot beside its entries and pieces.
type state struct {
	base, term uint64
	commit     uint64 // at least this was committed
	end        uint64 // offset of the last entry

	generation uint64 // of the checkpoint; 0: there is none
	offset     uint64 // of the checkpoint, else base
	pieces     uint64 // of the checkpoint
	size       uint64 // their bytes
}

func (s *state) numbers() [8]*uint64 {
	return [...]*uint64{&s.base, &s.term, &s.commit, &s.end, &s.generation, &s.offset, &s.pieces, &s.size}
}

// appendTo appends the encoding: the fields as uvarints, and their CRC-32C.
func (s *state) appendTo(b []byte) []byte {
	from := len(b)
	for _, n := range s.numbers() {
		b = binary.AppendUvarint(b, *n)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[from:], crc32.MakeTable(crc32.Castagnoli)))
}

func (s *state) decode(b []byte) error {
	const sum = 4
	if len(b) < sum || crc32.Checksum(b[:len(b)-sum], crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(b[len(b)-sum:]) {
		return fmt.Errorf("%w: the checksum of a state is wrong", errInvalid)
	}
	rest := b[:len(b)-sum]
	for _, n := range s.numbers() {
		value, size := binary.Uvarint(rest)
		if size <= 0 {
			return fmt.Errorf("%w: a state is cut short", errInvalid)
		}
		*n, rest = value, rest[size:]
	}
	if len(rest) > 0 || s.end < s.base || s.commit < s.base || s.commit > s.end || s.offset < s.base || s.offset > s.commit ||
		(s.generation == 0) != (s.pieces == 0) {
		return fmt.Errorf("%w: state %+v", errInvalid, *s)
	}
	return nil
}
