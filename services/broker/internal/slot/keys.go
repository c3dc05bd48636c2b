package slot

import "hash/maphash"

// keys is the table of idempotency keys of one slot: a function of its log.
type keys struct {
	bound int
	seeds [3]maphash.Seed
	byID  map[keyID]seenKey
	queue []agingKey // oldest first
}

// keyID is 128 bits of a channel and a key in it.
type keyID [2]uint64

type key struct {
	id     keyID
	digest uint64 // of the publication's bytes
}

type seenKey struct{ offset, digest uint64 }

type agingKey struct {
	id   keyID
	time int64 // of the entry
}

func newKeys(bound int) keys {
	k := keys{bound: bound, byID: make(map[keyID]seenKey)}
	for i := range k.seeds {
		k.seeds[i] = maphash.MakeSeed()
	}
	return k
}

func (k *keys) key(p *Publication) key {
	return key{
		id:     keyID{k.hash(0, p.Channel, p.Key), k.hash(1, p.Channel, p.Key)},
		digest: k.digest(p.Data, p.Ext, p.Members),
	}
}

func (k *keys) hash(seed int, channel, key string) uint64 {
	var h maphash.Hash
	h.SetSeed(k.seeds[seed])
	_, _ = h.WriteString(channel)
	_ = h.WriteByte(0) // in no channel's name
	_, _ = h.WriteString(key)
	return h.Sum64()
}

func (k *keys) digest(parts ...[]byte) uint64 {
	var h maphash.Hash
	h.SetSeed(k.seeds[2])
	for _, part := range parts {
		_, _ = h.Write(part)
		_ = h.WriteByte(0) // in no JSON text
	}
	return h.Sum64()
}

func (k *keys) add(key key, offset uint64, time int64) {
	k.byID[key.id] = seenKey{offset, key.digest}
	k.queue = append(k.queue, agingKey{key.id, time})
	if len(k.queue) > k.bound {
		k.pop()
	}
}

// expire drops the keys of entries that are not newer than a time.
func (k *keys) expire(upto int64) {
	for len(k.queue) > 0 && k.queue[0].time <= upto {
		k.pop()
	}
}

func (k *keys) pop() {
	delete(k.byID, k.queue[0].id)
	k.queue = k.queue[1:]
}
