package slot

import (
	"encoding/binary"
	"hash/crc32"
)

// A snapshot is a series of pieces, each of
//
//	version (1 byte), number of the piece, offset of the snapshot (uvarints)
//	records: kind (1 byte), then as the kind has it
//	CRC-32C of all that (4 bytes, big endian)
//
// Numbers in records are uvarints, texts have their length before them. Records
// come in the order of their kinds, those of a kind in the order of the log:
//
//	1 head       base, floor, dropped, time of the last entry; once
//	2 term       term, last offset
//	3 tombstone  last offset, time, channel
//	4 key        offset, time, digest, id (16 bytes)
//	5 entry      see [history.Entry.AppendTo]
//	6 end        once
const snapshotVersion = 1

const (
	recordHead = iota + 1
	recordTerm
	recordTombstone
	recordKey
	recordEntry
	recordEnd
)

// snapshot is what is committed, at one offset, as far as it is not yet written.
type snapshot struct {
	offset   uint64
	sections []section // none is empty
	pieces   uint64    // written
	written  int       // records of the first section
}

// section is the records of a kind.
type section struct {
	kind   byte
	count  int
	append func(b []byte, i int) []byte
}

// Snapshot is all that is committed, at one offset: history, keys, tombstones,
// floors and terms. Next returns it piece by piece, each about the given number
// of bytes, nil after the last; it needs no lock, and the log may change
// meanwhile. Taking it takes the time to copy an index of what is retained.
func (s *Slot) Snapshot() (offset uint64, next func(bytes int) []byte) {
	var (
		base, time = s.cfg.Base, s.settled
		terms      = terms(s.Terms()).cut(base, s.committed)
		past       = s.hist.Snapshot()
	)
	keys, keyAt := s.keys.committed()
	sn := &snapshot{offset: s.committed}
	for _, one := range []section{
		{recordHead, 1, func(b []byte, _ int) []byte {
			return appendNumbers(b, base, past.Floor, past.Dropped, uint64(time))
		}},
		{recordTerm, len(terms), func(b []byte, i int) []byte {
			return appendNumbers(b, terms[i].Term, terms[i].Last)
		}},
		{recordTombstone, len(past.Tombstones), func(b []byte, i int) []byte {
			t := &past.Tombstones[i]
			return append(appendNumbers(b, t.Last, uint64(t.Time), uint64(len(t.Channel))), t.Channel...)
		}},
		{recordKey, keys, func(b []byte, i int) []byte {
			k := keyAt(i)
			return append(appendNumbers(b, k.offset, uint64(k.time), k.digest), k.id[:]...)
		}},
		{recordEntry, past.Len(), past.AppendEntry},
		{recordEnd, 1, func(b []byte, _ int) []byte { return b }},
	} {
		if one.count > 0 {
			sn.sections = append(sn.sections, one)
		}
	}
	return s.committed, sn.piece
}

func (sn *snapshot) piece(bytes int) []byte {
	if len(sn.sections) == 0 {
		return nil
	}
	b := make([]byte, 0, bytes+bytes/8)
	b = appendNumbers(append(b, snapshotVersion), sn.pieces, sn.offset)
	for records := 0; len(sn.sections) > 0 && (records == 0 || len(b) < bytes); records++ {
		first := &sn.sections[0]
		b = first.append(append(b, first.kind), sn.written)
		if sn.written++; sn.written == first.count {
			sn.sections, sn.written = sn.sections[1:], 0
		}
	}
	sn.pieces++
	return binary.BigEndian.AppendUint32(b, checksum(b))
}

func appendNumbers(b []byte, numbers ...uint64) []byte {
	for _, n := range numbers {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }
