package slot

import (
	"crypto/sha256"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// keys are the idempotency keys of one slot. They follow from the log alone, in
// every process alike: the last bound keys of the log count, as far as they are
// young enough. What an entry of the tail displaced is kept until that is
// committed, so that cutting the tail brings it back.
//
// Keys are numbered from 1 in the order of the log. There is an index only where
// some were looked for lately: copies have none, nor has a log whose publishers
// leave it to Comet to make keys, which are looked for when they come again.
type keys struct {
	bound   int
	window  int64            // milliseconds
	blocks  [][]key          // of blockKeys, but for the last one; oldest first
	start   uint64           // number of the first in blocks
	first   uint64           // number of the oldest that is kept
	next    uint64           // number of the one that comes next
	settled uint64           // number of the last that is committed
	oldest  int64            // time of the first, or less
	index   map[keyID]uint64 // the newest of each id; nil: to be made
	asked   uint64           // number of the next when one was looked for last
	text    []byte           // scratch
}

// blockKeys is how many keys have their memory together. It does not move, so
// that snapshots may share it.
const blockKeys = 64

// keyID is the first half of the SHA-256 of a channel and a key in it: nobody
// can make a publication pass for that of another key.
type keyID [16]byte

type key struct {
	id     keyID
	digest uint64 // of the publication's bytes; guards against mistakes only
	offset uint64
	time   int64 // of the entry
}

func newKeys(bound int, window int64) keys {
	return keys{bound: bound, window: window, start: 1, first: 1, next: 1}
}

func (k *keys) id(channel, name string) keyID {
	k.text = append(k.text[:0], channel...)
	k.text = append(k.text, 0) // in no channel's name
	k.text = append(k.text, name...)
	sum := sha256.Sum256(k.text)
	return keyID(sum[:])
}

func digest(parts ...[]byte) uint64 {
	var d xxhash.Digest
	d.Reset()
	for _, part := range parts {
		_, _ = d.Write(part)
		_, _ = d.Write([]byte{0}) // in no JSON text
	}
	return d.Sum64()
}

// find returns the key of an id as it counts at a time, or nil.
func (k *keys) find(id keyID, clock int64) *key {
	if k.index == nil {
		k.index = make(map[keyID]uint64)
		for n := k.first; n < k.next; n++ {
			k.index[k.at(n).id] = n
		}
	}
	k.asked = k.next
	number, ok := k.index[id]
	if !ok || number+uint64(k.bound) < k.next {
		return nil
	}
	if found := k.at(number); found.time > clock-k.window {
		return found
	}
	return nil
}

// at is the key of a number.
func (k *keys) at(number uint64) *key {
	i := number - k.start
	return &k.blocks[i/blockKeys][i%blockKeys]
}

// add takes the key of an entry that is appended.
func (k *keys) add(added key) {
	last := len(k.blocks) - 1
	if last < 0 || len(k.blocks[last]) == blockKeys {
		k.blocks = append(k.blocks, make([]key, 0, blockKeys))
		last++
	}
	k.blocks[last] = append(k.blocks[last], added)
	switch {
	case k.index == nil:
	case k.asked+uint64(k.bound) < k.next:
		k.index = nil
	default:
		k.index[added.id] = k.next
	}
	k.next++
}

// undo takes the newest key back; it must not be settled.
func (k *keys) undo() {
	last := len(k.blocks) - 1
	if k.blocks[last] = k.blocks[last][:len(k.blocks[last])-1]; len(k.blocks[last]) == 0 {
		k.blocks = k.blocks[:last]
	}
	k.next--
	k.index = nil
}

// settle commits the next key, at the time of its entry, and drops what cannot
// count again.
func (k *keys) settle(time int64) {
	k.settled++
	for k.first+uint64(k.bound) <= k.settled {
		k.pop()
	}
	k.expire(time)
}

// committed returns how many keys of committed entries may still count, and the
// i-th of these; they stay as they are.
func (k *keys) committed() (count int, at func(i int) *key) {
	first, blocks := k.first-k.start, slices.Clone(k.blocks)
	return int(k.settled + 1 - k.first), func(i int) *key {
		n := first + uint64(i)
		return &blocks[n/blockKeys][n%blockKeys]
	}
}

// expire drops the settled keys that do not count at a time, nor later.
func (k *keys) expire(clock int64) {
	for k.oldest <= clock-k.window && k.first <= k.settled {
		if k.oldest = k.at(k.first).time; k.oldest <= clock-k.window {
			k.pop()
		}
	}
}

func (k *keys) pop() {
	if k.index != nil {
		if id := k.at(k.first).id; k.index[id] == k.first {
			delete(k.index, id)
		}
	}
	if k.first++; k.first == k.start+blockKeys {
		k.blocks[0] = nil
		k.blocks = k.blocks[1:]
		k.start += blockKeys
	}
}
