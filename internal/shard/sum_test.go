package shard_test

import (
	"slices"
	"testing"

	"github.com/comet-push/comet/internal/shard"
)

func TestSum(t *testing.T) {
	type one struct {
		id           string
		epoch, count uint64
		channels     []string
	}
	sum := func(list ...one) (s shard.Sum) {
		for _, x := range list {
			s.Add(x.id, x.epoch, x.count, slices.Values(x.channels))
		}
		return s
	}
	a, b := one{"a", 1, 2, []string{"/x", "/y"}}, one{"b", 1, 2, nil}
	if sum(a, b) != sum(b, one{"a", 1, 2, []string{"/y", "/x"}}) {
		t.Error("the order matters")
	}
	seen := map[shard.Sum]string{}
	for name, s := range map[string]shard.Sum{
		"none": sum(), "a": sum(a), "b": sum(b), "both": sum(a, b),
		"epoch":     sum(one{"a", 2, 2, a.channels}),
		"count":     sum(one{"a", 1, 1, a.channels}),
		"swapped":   sum(one{"a", 2, 1, a.channels}),
		"channel":   sum(one{"a", 1, 2, []string{"/x"}}),
		"another":   sum(one{"a", 1, 2, []string{"/x", "/z"}}),
		"exchanged": sum(one{"a", 1, 2, nil}, one{"b", 1, 2, a.channels}),
	} {
		if other, known := seen[s]; known {
			t.Errorf("%s and %s have the same sum", name, other)
		}
		seen[s] = name
	}
}
