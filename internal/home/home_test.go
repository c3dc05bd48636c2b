package home_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/comet-push/comet/internal/home"
)

func gen(epoch, count uint64) home.Generation { return home.Generation{Epoch: epoch, Count: count} }

func usable(edges ...string) func(string) bool {
	return func(edge string) bool { return slices.Contains(edges, edge) }
}

func TestBatch(t *testing.T) {
	for _, tt := range []struct {
		name     string
		from, to home.Generation
		exact    bool
		want     uint32
	}{
		{"handed over", gen(3, 4), gen(3, 5), true, 7},
		{"from the record", gen(3, 4), gen(3, 5), false, 1007},
		{"with a home in between", gen(3, 4), gen(3, 6), false, 2007},
		{"in a new epoch", gen(3, 4), gen(4, 5), false, 17007},
		{"of an edge that knew no epoch", gen(0, 1), gen(1<<40, 2), false, 16_001_007},
		{"of nonsense", gen(3, 4), gen(2, 3), false, 1007},
	} {
		if got := home.Batch(7, tt.from, tt.to, tt.exact); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
	if got := home.Batch(1<<31-1, gen(1, 1), gen(1, 2), false); got >= 1<<31 {
		t.Errorf("%d is above what clients can count to", got)
	}
}

func TestSeat(t *testing.T) {
	now := time.Unix(1000, 0)
	s := home.NewSeat(gen(1, 1), time.Time{})
	take := func(by string, g home.Generation, wantExact bool, wantErr error) {
		t.Helper()
		if exact, err := s.Take(by, g, now.Add(time.Second)); exact != wantExact || !errors.Is(err, wantErr) {
			t.Errorf("taken by %s in %v: exact %v, %v", by, g, exact, err)
		}
	}
	if !s.Serves() || s.Dead(now) {
		t.Error("it does not serve")
	}
	take("e2", gen(1, 1), false, home.ErrStale)
	take("e2", gen(1, 2), true, nil)
	take("e2", gen(1, 2), true, nil) // its answer was lost
	if edge, g := s.Home(); s.Serves() || edge != "e2" || g != gen(1, 2) || s.Generation() != gen(1, 1) {
		t.Errorf("it serves, or is at %s in %v", edge, g)
	}
	take("e3", gen(2, 2), false, nil) // e2 may have gone on
	take("e2", gen(1, 2), false, home.ErrStale)
	take("e4", gen(2, 3), false, nil)
	if s.Dead(now) || !s.Dead(now.Add(time.Second)) {
		t.Error("the copy is kept for another time than was said")
	}
	late := home.NewSeat(gen(1, 1), time.Time{})
	if exact, err := late.Take("e3", gen(1, 3), now); exact || err != nil {
		t.Errorf("with a claim in between: exact %v, %v", exact, err)
	}
}

func TestSuperseded(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, tt := range []struct {
		name   string
		edge   string
		g      home.Generation
		want   home.Verdict
		serves bool
	}{
		{"late", "e2", gen(1, 4), home.Nothing, true},
		{"lost", "e1", gen(1, 5), home.Claim, true},
		{"claimed without hearing of it", "e1", gen(2, 6), home.Claim, true},
		{"elsewhere", "e2", gen(1, 6), home.Keep, false},
		{"over", "", gen(1, 5), home.End, false},
		{"nonsense", "e2", gen(1, 5), home.Nothing, true},
	} {
		s := home.NewSeat(gen(1, 5), time.Time{})
		if got := s.Superseded("e1", tt.edge, tt.g, now); got != tt.want || s.Serves() != tt.serves {
			t.Errorf("%s: %v, serves %v", tt.name, got, s.Serves())
		}
		if got := s.Superseded("e1", "e9", gen(1, 2), now); got != home.Nothing {
			t.Errorf("%s, then an old one: %v", tt.name, got)
		}
	}
}

func TestThrough(t *testing.T) {
	began := time.Unix(1000, 0)
	s := home.NewSeat(gen(1, 1), time.Time{})
	for i, tt := range []struct {
		front string
		want  bool
	}{{"a", false}, {"a", false}, {"b", false}, {"b", false}, {"b", true}, {"", false}, {"b", false}, {"b", false}, {"b", true}} {
		if got := s.Through(tt.front, began); got != tt.want {
			t.Errorf("connect %d through %q: %v", i, tt.front, got)
		}
	}
	s = home.NewSeat(gen(1, 2), began)
	for i := range 70 {
		if got := s.Through("a", began.Add(time.Duration(i)*time.Second)); got != (i >= 60) {
			t.Errorf("%d s after it moved: %v", i, got)
		}
	}
}

// TestMove follows a request for a session, step by step.
func TestMove(t *testing.T) {
	up := usable("e1", "e2", "e3")
	found := func() home.Move { return home.Find("e0", "e1", up) }
	for _, tt := range []struct {
		name string
		move home.Move
		hear []func(m *home.Move)
		want []home.Step
	}{
		{
			"the hint's edge went", home.Find("e0", "e9", up),
			[]func(m *home.Move){func(m *home.Move) { m.Located("e2", gen(1, 2), false, up) }},
			[]home.Step{{Do: home.Locate}, {Do: home.Relay, Edge: "e2"}},
		},
		{
			"it moved", found(),
			[]func(m *home.Move){func(m *home.Move) { m.NotHome("e2", up) }, func(m *home.Move) { m.NotHome("e1", up) }},
			[]home.Step{{Do: home.Relay, Edge: "e1"}, {Do: home.Relay, Edge: "e2"}, {Do: home.Locate}},
		},
		{
			"its home does not answer", found(),
			[]func(m *home.Move){
				(*home.Move).Unreachable, func(m *home.Move) { m.Located("e1", gen(1, 1), false, up) },
				func(m *home.Move) { m.Claimed(gen(1, 2), "e1") }, (*home.Move).Unreachable,
			},
			[]home.Step{
				{Do: home.Relay, Edge: "e1"},
				{Do: home.Locate},
				{Do: home.ClaimIt, Edge: "e1", Generation: gen(1, 1)},
				{Do: home.Take, Edge: "e1", Generation: gen(1, 2)},
				{Do: home.RestoreRecord, Edge: "e1", Generation: gen(1, 2)},
			},
		},
		{
			"its client has settled, somebody else claims, and is overtaken", home.Adopt("e0", "e1"),
			[]func(m *home.Move){
				func(m *home.Move) { m.Located("e1", gen(1, 1), false, up) }, (*home.Move).Stale,
				func(m *home.Move) { m.Located("e2", gen(1, 2), true, up) },
				func(m *home.Move) { m.Claimed(gen(1, 3), "e1") },
				func(m *home.Move) { m.Superseded(gen(1, 3)) },
				func(m *home.Move) { m.Took(true) },
				func(m *home.Move) { m.Superseded(gen(1, 4)) },
			},
			[]home.Step{
				{Do: home.Locate},
				{Do: home.ClaimIt, Edge: "e1", Generation: gen(1, 1)},
				{Do: home.Locate},
				{Do: home.ClaimIt, Edge: "e2", Generation: gen(1, 2)},
				{Do: home.Take, Edge: "e1", Generation: gen(1, 3)},
				{Do: home.Take, Edge: "e1", Generation: gen(1, 3)},
				{Do: home.Restore, Edge: "e1", Generation: gen(1, 3), Exact: true},
				{Do: home.Locate},
			},
		},
		{
			"it is newer than what presence knows", home.Adopt("e0", "e1"),
			[]func(m *home.Move){func(m *home.Move) { m.Unknown(up) }, func(m *home.Move) { m.NotHome("", up) }},
			[]home.Step{{Do: home.Locate}, {Do: home.Relay, Edge: "e1"}, {Do: home.Refuse}},
		},
		{
			"nobody knows it", found(),
			[]func(m *home.Move){func(m *home.Move) { m.NotHome("", up) }, func(m *home.Move) { m.Unknown(up) }},
			[]home.Step{{Do: home.Relay, Edge: "e1"}, {Do: home.Locate}, {Do: home.Refuse}},
		},
		{
			"it is over", home.Adopt("e0", "e1"),
			[]func(m *home.Move){(*home.Move).Over},
			[]home.Step{{Do: home.Locate}, {Do: home.Refuse}},
		},
		{
			"presence cannot say", home.Adopt("e0", "e1"),
			[]func(m *home.Move){(*home.Move).Failed},
			[]home.Step{{Do: home.Locate}, {Do: home.Busy}},
		},
		{
			"presence says that it is here", found(),
			[]func(m *home.Move){
				func(m *home.Move) { m.NotHome("e0", up) }, func(m *home.Move) { m.Located("e0", gen(1, 2), false, up) },
				func(m *home.Move) { m.Claimed(gen(1, 3), "e1") }, (*home.Move).Untaken,
			},
			[]home.Step{
				{Do: home.Relay, Edge: "e1"},
				{Do: home.Locate},
				{Do: home.ClaimIt, Edge: "e0", Generation: gen(1, 2)},
				{Do: home.Take, Edge: "e1", Generation: gen(1, 3)},
				{Do: home.RestoreRecord, Edge: "e1", Generation: gen(1, 3)},
			},
		},
	} {
		m := tt.move
		for i, want := range tt.want {
			if i > 0 {
				tt.hear[i-1](&m)
			}
			if got := m.Step(); got != want {
				t.Errorf("%s: step %d is %+v, want %+v", tt.name, i, got, want)
			}
		}
	}
}

// TestMoveEnds gives up when everybody contradicts everybody.
func TestMoveEnds(t *testing.T) {
	up := usable("e1", "e2")
	m := home.Find("e0", "e1", up)
	for n := 0; ; n++ {
		switch m.Step().Do {
		case home.Relay:
			m.NotHome("e2", up)
		case home.Locate:
			m.Located("e1", gen(1, 1), false, up)
		case home.ClaimIt:
			m.Stale()
		case home.Busy:
			return
		}
		if n > 100 {
			t.Fatal("it goes on for ever")
		}
	}
}
