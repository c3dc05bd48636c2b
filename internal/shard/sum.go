package shard

import (
	"encoding/binary"
	"iter"

	"github.com/cespare/xxhash/v2"
)

// Sum sums up the sessions of a presence shard that live on one edge, in any
// order: two that differ in a session, its generation or a channel of it differ,
// but for one in 2^64.
type Sum struct {
	Sessions uint32
	Hash     uint64
}

// Add adds a session: its public id, generation and channels.
func (s *Sum) Add(publicID string, epoch, count uint64, channels iter.Seq[string]) {
	s.Sessions++
	own := mix(xxhash.Sum64String(publicID), epoch, count)
	s.Hash ^= own
	for channel := range channels {
		s.Hash ^= mix(own, xxhash.Sum64String(channel), 0)
	}
}

func mix(a, b, c uint64) uint64 {
	var text [24]byte
	binary.LittleEndian.PutUint64(text[:], a)
	binary.LittleEndian.PutUint64(text[8:], b)
	binary.LittleEndian.PutUint64(text[16:], c)
	return xxhash.Sum64(text[:])
}
