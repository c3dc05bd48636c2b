package bayeux

import (
	"iter"
	"strings"
)

// Tree finds the values of all channels and patterns that match a channel. A
// key holds one value. The zero Tree is empty and ready.
//
// A Tree is not safe for use by several goroutines while one changes it. Match
// costs one map look-up per segment of the channel, however many keys there
// are.
type Tree[V any] struct {
	literal map[string]V // by channel
	one     map[string]V // by what stands before /*
	deep    map[string]V // by what stands before /**
}

// Add sets the value of a channel or pattern, which must be valid.
func (t *Tree[V]) Add(key string, v V) {
	if t.literal == nil {
		*t = Tree[V]{map[string]V{}, map[string]V{}, map[string]V{}}
	}
	values, name := t.shelf(key)
	values[name] = v
}

// Remove removes a channel or pattern and reports whether it was there.
func (t *Tree[V]) Remove(key string) bool {
	values, name := t.shelf(key)
	_, ok := values[name]
	delete(values, name)
	return ok
}

// Get returns the value of exactly this channel or pattern.
func (t *Tree[V]) Get(key string) (V, bool) {
	values, name := t.shelf(key)
	v, ok := values[name]
	return v, ok
}

// Len returns the number of keys.
func (t *Tree[V]) Len() int { return len(t.literal) + len(t.one) + len(t.deep) }

// Match calls fn with the value of each key that matches a literal channel (see
// the function Match): the channel itself, then *, then ** from the root down.
// It allocates nothing. fn must not change the tree.
func (t *Tree[V]) Match(channel string, fn func(V)) {
	if v, ok := t.literal[channel]; ok {
		fn(v)
	}
	last := strings.LastIndexByte(channel, '/')
	if last < 0 {
		return
	}
	rooted := IsBroadcast(channel) // /* and /** may reach it
	if v, ok := t.one[channel[:last]]; ok && (rooted || last > 0) {
		fn(v)
	}
	if len(t.deep) == 0 {
		return
	}
	for i := 0; i <= last; i++ {
		if channel[i] != '/' || i == 0 && !rooted {
			continue
		}
		if v, ok := t.deep[channel[:i]]; ok {
			fn(v)
		}
	}
}

// All iterates over the keys and their values, in no order.
func (t *Tree[V]) All() iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, shelf := range [...]struct {
			values map[string]V
			suffix string
		}{{t.literal, ""}, {t.one, "/*"}, {t.deep, "/**"}} {
			for name, v := range shelf.values {
				if !yield(name+shelf.suffix, v) {
					return
				}
			}
		}
	}
}

func (t *Tree[V]) shelf(key string) (values map[string]V, name string) {
	if name, ok := strings.CutSuffix(key, "/**"); ok {
		return t.deep, name
	}
	if name, ok := strings.CutSuffix(key, "/*"); ok {
		return t.one, name
	}
	return t.literal, key
}
