package shard_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/comet-push/comet/internal/shard"
)

// TestOfSession pins the shards of sessions: processes of two versions must
// agree on them.
func TestOfSession(t *testing.T) {
	for id, want := range map[string]shard.PresenceShard{
		"":                                    153,
		"0a1b2c3d-mfrggzdfmztwq2lknnwg23tpoa": 211,
	} {
		if got := shard.OfSession(id); got != want {
			t.Errorf("session %q is of shard %d, want %d", id, got, want)
		}
	}
	var count [shard.PresenceShards]int
	for i := range 100 * shard.PresenceShards {
		count[shard.OfSession(fmt.Sprintf("0a1b2c3d-%d", i))]++
	}
	if least, most := slices.Min(count[:]), slices.Max(count[:]); least < 50 || most > 150 {
		t.Errorf("of 100 sessions for each shard some have %d and some %d", least, most)
	}
}

func TestHoldersRoundTrip(t *testing.T) {
	for _, want := range []shard.Holders{
		{},
		{Epoch: 1, First: "a@1"},
		{Epoch: 1 << 40, First: "a@1", Second: "b@2", Version: 7},
	} {
		text, err := want.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := shard.ParseHolders(text, want.Version); err != nil || got != want {
			t.Errorf("%+v is written as %s and read back as %+v, %v", want, text, got, err)
		}
	}
	for _, text := range []string{"", "{", `{"epoch":-1}`, `{"first":1}`, "[]"} {
		if got, err := shard.ParseHolders([]byte(text), 7); err == nil || got != (shard.Holders{}) {
			t.Errorf("%q is read as %+v, %v", text, got, err)
		}
	}
}

func TestHolderTable(t *testing.T) {
	var none *shard.HolderTable
	if none.Complete() || none.Holders(0) != (shard.Holders{}) || none.Held("") != nil {
		t.Error("there are holders in no table")
	}
	old := none.With(map[shard.PresenceShard]shard.Holders{
		1: {First: "a@1", Second: "b@1", Version: 5}, 2: {First: "b@1", Version: 6}, shard.PresenceShards: {Version: 7},
	})
	table := old.With(map[shard.PresenceShard]shard.Holders{
		1: {First: "c@1", Version: 4}, 2: {First: "a@1", Version: 8},
	})
	if got := table.Holders(1).First; got != "a@1" {
		t.Errorf("an older row was taken: shard 1 is held by %s", got)
	}
	if was, is := old.Held("a@1"), table.Held("a@1"); !slices.Equal(was, []shard.PresenceShard{1}) || !slices.Equal(is, []shard.PresenceShard{1, 2}) {
		t.Errorf("a holds %v, then %v", was, is)
	}
	if got := table.Held("b@1"); !slices.Equal(got, []shard.PresenceShard{1}) {
		t.Errorf("b holds %v", got)
	}
	if got := table.Holders(shard.PresenceShards); got != (shard.Holders{}) || table.Complete() {
		t.Errorf("there is a shard too many, %+v, or the table is complete", got)
	}
	all := map[shard.PresenceShard]shard.Holders{}
	for s := range shard.PresenceShard(shard.PresenceShards) {
		all[s] = shard.Holders{First: "a@1", Version: 9}
	}
	if !table.With(all).Complete() {
		t.Error("a table with all first holders is not complete")
	}
}

// TestStays tells a holder that stayed from one that came back.
func TestStays(t *testing.T) {
	row := shard.Holders{Epoch: 1, First: "a@1"}.Follow(shard.Holders{})
	write := func(next shard.Holders) shard.Holders {
		next = next.Follow(row)
		next.Version = row.Version + 5
		return next
	}
	row = write(row)
	a := row.Since("a@1")
	row = write(shard.Holders{Epoch: 1, First: "a@1", Second: "b@1"})
	b := row.Since("b@1")
	if row = write(shard.Holders{Epoch: 2, First: "b@1", Second: "a@1"}); row.Since("a@1") != a || row.Since("b@1") != b {
		t.Errorf("a change of roles ended a stay: %+v", row)
	}
	row = write(shard.Holders{Epoch: 2, First: "b@1"})
	if row = write(shard.Holders{Epoch: 2, First: "b@1", Second: "a@1"}); row.Since("a@1") == a || row.Since("b@1") != b {
		t.Errorf("who came back stayed: %+v", row)
	}
	if row.Since("") != 0 || row.Since("c@1") != 0 {
		t.Errorf("somebody else stays: %+v", row)
	}
}

func FuzzParseHolders(f *testing.F) {
	f.Add([]byte(`{"epoch":3,"first":"a@1","second":"b@2"}`))
	f.Add([]byte(`{"epoch":1,"first":"a@1"}`))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, text []byte) {
		h, err := shard.ParseHolders(text, 7)
		if err != nil {
			return
		}
		again, err := h.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := shard.ParseHolders(again, 7); err != nil || got != h {
			t.Fatalf("%q reads %+v, written and read again %+v, %v", text, h, got, err)
		}
	})
}
