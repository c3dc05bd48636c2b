package shard

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// PresenceShards is how many shards the records of sessions are spread over.
const PresenceShards = 256

// PresenceShard is the number of a presence shard, from 0 to PresenceShards-1.
type PresenceShard uint32

// OfSession returns the shard of a session, by its public id.
func OfSession(publicID string) PresenceShard {
	return PresenceShard(xxhash.Sum64String(publicID) % PresenceShards)
}

// Holders say which presence processes hold the records of a shard. They are
// members, name@id: a process that came back has no records and is another.
type Holders struct {
	// Epoch rises when First changes.
	Epoch uint64 `json:"epoch"`
	// First is the member that answers for the shard; empty: nobody.
	First string `json:"first"`
	// Second is another that is told the same; empty: nobody.
	Second string `json:"second,omitempty"`
	// FirstSince and SecondSince tell the stays of a holder apart: whoever was
	// out of the row in between, and did not see it, has missed what was told
	// then. They are those of the row before for who was in it, as either.
	FirstSince  uint64 `json:"first_since,omitempty"`
	SecondSince uint64 `json:"second_since,omitempty"`
	// Version rises with every change of the row; 0: never written.
	Version int64 `json:"-"`
}

// Since returns since when a holder is one, as a number that says nothing else.
func (h Holders) Since(member string) uint64 {
	switch {
	case member == "":
	case h.First == member:
		return h.FirstSince
	case h.Second == member:
		return h.SecondSince
	}
	return 0
}

// Follow returns the row as it is to be written in place of another: with the
// stays of those who were in that one.
func (h Holders) Follow(before Holders) Holders {
	since := func(member string) uint64 {
		switch {
		case member == "":
			return 0
		case before.Has(member):
			return before.Since(member)
		}
		return uint64(before.Version) + 1
	}
	h.FirstSince, h.SecondSince = since(h.First), since(h.Second)
	return h
}

// Has reports whether a member is one of the holders.
func (h Holders) Has(member string) bool {
	return member != "" && (h.First == member || h.Second == member)
}

// MarshalText returns the row as it is stored.
func (h Holders) MarshalText() ([]byte, error) {
	type plain Holders
	return json.Marshal(plain(h))
}

// ParseHolders reads what MarshalText wrote; version is the store's.
func ParseHolders(text []byte, version int64) (Holders, error) {
	type plain Holders
	var h plain
	if err := json.Unmarshal(text, &h); err != nil {
		return Holders{}, fmt.Errorf("parse holders: %w", err)
	}
	h.Version = version
	return Holders(h), nil
}

// HolderTable is a snapshot of the holders of all shards. It is immutable; nil
// and the zero HolderTable have none.
type HolderTable struct {
	rows [PresenceShards]Holders
}

// Holders returns the holders of a shard.
func (t *HolderTable) Holders(s PresenceShard) Holders {
	if t == nil || s >= PresenceShards {
		return Holders{}
	}
	return t.rows[s]
}

// With returns a copy of the table in which the given rows are replaced; rows
// of a lower version than the present ones are ignored.
func (t *HolderTable) With(rows map[PresenceShard]Holders) *HolderTable {
	next := &HolderTable{}
	if t != nil {
		next.rows = t.rows
	}
	for s, h := range rows {
		if s < PresenceShards && h.Version >= next.rows[s].Version {
			next.rows[s] = h
		}
	}
	return next
}

// Held returns the shards of which a member is a holder, in order.
func (t *HolderTable) Held(member string) []PresenceShard {
	var held []PresenceShard
	for s := range PresenceShard(PresenceShards) {
		if t.Holders(s).Has(member) {
			held = append(held, s)
		}
	}
	return held
}

// Complete reports whether every shard has a first holder.
func (t *HolderTable) Complete() bool {
	return t != nil && !slices.ContainsFunc(t.rows[:], func(h Holders) bool { return h.First == "" })
}
