package bayeux

import (
	"maps"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// bigTree holds 1e5 keys: literals and patterns of several depths.
func bigTree() *Tree[int] {
	var t Tree[int]
	for i := range 100_000 / 4 {
		n := strconv.Itoa(i)
		for _, key := range []string{"/chat/" + n, "/chat/" + n + "/*", "/chat/" + n + "/**", "/t/x/" + n + "/**"} {
			t.Add(key, i)
		}
	}
	t.Add("/**", -1)
	t.Add("/chat/**", -2)
	return &t
}

func TestTreeMatchAllocatesNothing(t *testing.T) {
	tree := bigTree()
	hits := 0
	count := func(int) { hits++ }
	if n := testing.AllocsPerRun(100, func() { tree.Match("/chat/777/room", count) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if hits != 101*4 {
		t.Errorf("%d hits", hits)
	}
}

func TestTreeZero(t *testing.T) {
	var tree Tree[int]
	tree.Match("/a", func(int) { t.Error("a match in an empty tree") })
	if _, ok := tree.Get("/a"); ok || tree.Remove("/a") || tree.Len() != 0 {
		t.Error("an empty tree holds something")
	}
}

func TestTreeOrder(t *testing.T) {
	var tree Tree[string]
	for _, key := range []string{"/**", "/a/**", "/a/b/**", "/a/b/*", "/a/b/c", "/a/b/d"} {
		tree.Add(key, key)
	}
	var got []string
	tree.Match("/a/b/c", func(v string) { got = append(got, v) })
	if diff := cmp.Diff([]string{"/a/b/c", "/a/b/*", "/**", "/a/**", "/a/b/**"}, got); diff != "" {
		t.Error(diff)
	}
}

func channels(patterns bool) *rapid.Generator[string] {
	last := []string{"a", "b", "meta", "service"}
	if patterns {
		last = append(last, "*", "**", "b*")
	}
	return rapid.Custom(func(t *rapid.T) string {
		name := ""
		for range rapid.IntRange(0, 3).Draw(t, "depth") {
			name += "/" + rapid.SampledFrom([]string{"a", "b", "meta", "service"}).Draw(t, "segment")
		}
		return name + "/" + rapid.SampledFrom(last).Draw(t, "last")
	})
}

// A tree is a map whose Match is the naive search over its keys.
func TestTreeModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tree Tree[int]
		model := map[string]int{}
		keys, literals := channels(true), channels(false)
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				key, v := keys.Draw(t, "key"), rapid.Int().Draw(t, "value")
				tree.Add(key, v)
				model[key] = v
			},
			"remove": func(t *rapid.T) {
				key := keys.Draw(t, "key")
				_, had := model[key]
				delete(model, key)
				if tree.Remove(key) != had {
					t.Fatalf("Remove(%s) = %v", key, !had)
				}
			},
			"match": func(t *rapid.T) {
				channel := literals.Draw(t, "channel")
				var got, want []int
				tree.Match(channel, func(v int) { got = append(got, v) })
				for key, v := range model {
					if Match(key, channel) {
						want = append(want, v)
					}
				}
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Fatalf("%s matches %v, want %v", channel, got, want)
				}
			},
			"": func(t *rapid.T) {
				if tree.Len() != len(model) || !maps.Equal(maps.Collect(tree.All()), model) {
					t.Fatalf("tree %v, model %v", maps.Collect(tree.All()), model)
				}
			},
		})
	})
}
