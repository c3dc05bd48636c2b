package slot

import (
	"crypto/sha256"

	"github.com/cespare/xxhash/v2"
)

// keys is the table of idempotency keys of one slot. It follows from the log
// alone, in every process alike: the last bound keys of the log count, as far
// as they are young enough. What an entry of the tail displaced is kept until
// that is committed, so that cutting the tail brings it back.
//
// Keys are numbered from 1 in the order of the log.
type keys struct {
	bound   int
	window  int64            // milliseconds
	numbers map[keyID]uint64 // the newest of each id
	queue   []key            // oldest first
	first   uint64           // number of the first in queue
	settled uint64           // number of the last that is committed
	text    []byte           // scratch
}

// keyID is the first half of the SHA-256 of a channel and a key in it: nobody
// can make a publication pass for that of another key.
type keyID [16]byte

type key struct {
	id     keyID
	digest uint64 // of the publication's bytes; guards against mistakes only
	offset uint64
	time   int64  // of the entry
	older  uint64 // number of the one with the same id before it, or 0
}

func newKeys(bound int, window int64) keys {
	return keys{bound: bound, window: window, numbers: make(map[keyID]uint64), first: 1}
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
	number, ok := k.numbers[id]
	if !ok || number+uint64(k.bound) <= k.last() {
		return nil
	}
	if found := &k.queue[number-k.first]; found.time > clock-k.window {
		return found
	}
	return nil
}

func (k *keys) last() uint64 { return k.first + uint64(len(k.queue)) - 1 }

// add takes the key of an entry that is appended.
func (k *keys) add(added key) {
	added.older = k.numbers[added.id]
	k.queue = append(k.queue, added)
	k.numbers[added.id] = k.last()
}

// undo takes the newest key back; it must not be settled.
func (k *keys) undo() {
	last := len(k.queue) - 1
	undone := k.queue[last]
	k.queue = k.queue[:last]
	if undone.older >= k.first {
		k.numbers[undone.id] = undone.older
	} else {
		delete(k.numbers, undone.id)
	}
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

// committed returns the keys of committed entries that may still count. They
// stay as they are.
func (k *keys) committed() []key { return k.queue[: k.settled+1-k.first : k.settled+1-k.first] }

// expire drops the settled keys that do not count at a time, nor later.
func (k *keys) expire(clock int64) {
	for k.first <= k.settled && k.queue[0].time <= clock-k.window {
		k.pop()
	}
}

func (k *keys) pop() {
	if id := k.queue[0].id; k.numbers[id] == k.first {
		delete(k.numbers, id)
	}
	k.queue = k.queue[1:]
	k.first++
}
