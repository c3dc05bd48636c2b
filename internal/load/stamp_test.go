package load

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestStamp(t *testing.T) {
	s := stamp{due: 3*time.Second + 7, seq: 12345, channel: 65535}
	for _, size := range []int{minSize, minSize + 1, 1000} {
		data := appendData(nil, size, s)
		if len(data) != size || !json.Valid(data) || bytes.ContainsAny(data, "<>&\\\n") {
			t.Errorf("size %d: %d bytes %s", size, len(data), data)
		}
		got, before, after, ok := nextStamp(data)
		if !ok || got != s || string(before) != dataHead || len(before)+stampLen+len(after) != size {
			t.Errorf("size %d: got %v, %t, before %q", size, got, ok, before)
		}
	}
}

func TestNextStamp(t *testing.T) {
	one := string(appendData(nil, minSize, stamp{due: 1, seq: 1, channel: 1}))
	two := string(appendData(nil, minSize, stamp{due: 2, seq: 2, channel: 1}))
	for _, tt := range []struct {
		name, text string
		want       int
	}{
		{"none", `{"type":"open","cursor":"~CB0"}`, 0},
		{"several", "[" + one + "," + two + "]", 2},
		{"behind what only looks like one", mark + strings.Repeat("z", stampLen) + one, 1},
		{"overlapping what only looks like one", mark + "000" + one, 1},
		{"cut off", one[:len(one)-len(dataTail)-1], 0},
	} {
		n := 0
		for text := []byte(tt.text); ; n++ {
			_, _, after, ok := nextStamp(text)
			if !ok {
				break
			}
			text = after
		}
		if n != tt.want {
			t.Errorf("%s: %d stamps, want %d", tt.name, n, tt.want)
		}
	}
}

func TestPositionBefore(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{`{"channel":"/a","position":3735928559012345,"data":{"s":"`, "3735928559012345"},
		{`"position":7,"data":{"s":"`, "7"},
		{`"position":"7","data":{"s":"`, ""},
		{`{"channel":"/a","data":{"s":"`, ""},
		{`12,"data":{"s":"`, ""},
		{``, ""},
	} {
		if got := string(positionBefore([]byte(tt.text))); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.text, got, tt.want)
		}
	}
}

func TestSequence(t *testing.T) {
	type sum struct{ fresh, gaps, late, repeats int }
	const resumed = 0 // stands for a new connection
	for _, tt := range []struct {
		name string
		in   []uint32
		want sum
	}{
		{"in order", []uint32{1, 2, 3}, sum{fresh: 3}},
		{"first one missing", []uint32{2, 3}, sum{fresh: 2, gaps: 1}},
		{"gap", []uint32{1, 2, 6, 7}, sum{fresh: 4, gaps: 3}},
		{"repeat", []uint32{1, 2, 2, 1, 3}, sum{fresh: 3, repeats: 2}},
		{"swapped", []uint32{1, 3, 2, 4}, sum{fresh: 4, late: 1}},
		{"late twice", []uint32{1, 3, 2, 2}, sum{fresh: 3, late: 1, repeats: 1}},
		{"far gap", []uint32{1, 1000, 999}, sum{fresh: 3, gaps: 997, late: 1}},
		{"too late to tell", []uint32{1000, 1}, sum{fresh: 1, gaps: 999, repeats: 1}},
		{"resumed, with some again", []uint32{1, 2, 3, resumed, 2, 3, 4, 5}, sum{fresh: 5}},
		{"resumed, then a repeat", []uint32{1, 2, resumed, 2, 3, 3}, sum{fresh: 3, repeats: 1}},
		{"resumed behind a loss", []uint32{1, resumed, 3}, sum{fresh: 2, gaps: 1}},
	} {
		var s sequence
		var got sum
		for _, n := range tt.in {
			if n == resumed {
				s.resume()
				continue
			}
			v := s.see(n)
			got.gaps += int(v.missed)
			if v.fresh {
				got.fresh++
			}
			if v.late {
				got.late++
				got.gaps--
			}
			if v.repeat {
				got.repeats++
			}
		}
		if got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestSchedule(t *testing.T) {
	for _, tt := range []struct {
		rate   float64
		length time.Duration
		total  int
	}{
		{10, time.Second, 10},
		{0.5, 4 * time.Second, 2},
		{0.1, time.Second, 1},
		{3, 10 * time.Second, 30},
		{1e6, time.Second, 1e6},
	} {
		s := newSchedule(time.Second, tt.rate, tt.length)
		if s.total != tt.total || s.due(0) != time.Second {
			t.Errorf("%v per second: %d messages from %v", tt.rate, s.total, s.due(0))
		}
		// No error adds up over the whole schedule.
		want := time.Second + time.Duration(float64(s.total)/tt.rate*float64(time.Second))
		if off := s.end() - want; off.Abs() > time.Microsecond {
			t.Errorf("%v per second: ends at %v, want %v", tt.rate, s.end(), want)
		}
	}
}

func TestHistogram(t *testing.T) {
	h, other := newHistogram(), newHistogram()
	for i := 1; i <= 1000; i++ {
		record(h, time.Duration(i)*time.Millisecond)
	}
	record(other, 2*time.Hour) // counts as an hour
	record(other, -time.Second)
	for _, tt := range []struct {
		name      string
		got, want float64
	}{
		{"p50", latencyOf(h).P50, 500},
		{"p90", latencyOf(h).P90, 900},
		{"p99", latencyOf(h).P99, 990},
		{"p99.9", latencyOf(h).P999, 999},
		{"max", latencyOf(h).Max, 1000},
	} {
		if off := tt.got/tt.want - 1; off < -0.002 || off > 0.002 {
			t.Errorf("%s is %v, want %v", tt.name, tt.got, tt.want)
		}
	}
	if dropped := h.Merge(other); dropped != 0 || h.TotalCount() != 1002 || h.Max() < time.Hour.Microseconds()*999/1000 {
		t.Errorf("merged: %d dropped, %d in all, max %d", dropped, h.TotalCount(), h.Max())
	}
}
