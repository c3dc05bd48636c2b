package shard_test

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/comet-push/comet/internal/shard"
)

func TestCursorRoundTrip(t *testing.T) {
	vector := func(channels []string, from uint64) map[shard.Slot]uint64 {
		at := map[shard.Slot]uint64{}
		for i, s := range shard.SlotsOf(channels) {
			at[s] = from + uint64(i)*7919
		}
		return at
	}
	tests := []struct {
		name     string
		channels []string
		from     uint64
	}{
		{"one channel", []string{"/a"}, 3735928559012345},
		{"one channel at zero", []string{"/a"}, 0},
		{"one channel twice", []string{"/a", "/a"}, 17},
		{"two channels", []string{"/a", "/b"}, 1 << 40},
		{"pattern", []string{"/a/**"}, 1 << 52},
		{"pattern and channel", []string{"/a/*", "/b"}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := vector(tt.channels, tt.from)
			text := shard.FormatCursor(tt.channels, want)
			if len(text) > shard.MaxCursorBytes {
				t.Errorf("cursor has %d bytes", len(text))
			}
			got, err := shard.ParseCursor(tt.channels, text)
			if err != nil {
				t.Fatalf("parse %q: %v", text, err)
			}
			if !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestCursorIgnoresOrderOfChannels(t *testing.T) {
	text := shard.FormatCursor([]string{"/a", "/b/*"}, nil)
	if _, err := shard.ParseCursor([]string{"/b/*", "/a", "/a"}, text); err != nil {
		t.Error(err)
	}
}

func TestCursorLongest(t *testing.T) {
	at := map[shard.Slot]uint64{}
	for s := range shard.Slot(shard.Slots - 1) {
		at[s] = shard.MaxPosition - 1
	}
	channels := []string{"/**"}
	text := shard.FormatCursor(channels, at)
	if len(text) > shard.MaxCursorBytes {
		t.Errorf("cursor has %d bytes, want at most %d", len(text), shard.MaxCursorBytes)
	}
	got, err := shard.ParseCursor(channels, text)
	if err != nil {
		t.Fatal(err)
	}
	if got[0] != shard.MaxPosition-1 || got[shard.Slots-1] != 0 {
		t.Errorf("got %d and %d, want the highest position and 0", got[0], got[shard.Slots-1])
	}
}

func TestParseCursorRefuses(t *testing.T) {
	one, many := []string{"/a"}, []string{"/a", "/b"}
	good := shard.FormatCursor(many, map[shard.Slot]uint64{shard.Of("/a"): 5, shard.Of("/b"): 9})
	tests := []struct {
		name     string
		channels []string
		text     string
	}{
		{"no channels", nil, "5"},
		{"empty", one, ""},
		{"sign", one, "-5"},
		{"plus", one, "+5"},
		{"seventeen digits", one, "12345678901234567"},
		{"vector for one channel", one, good},
		{"position for many", many, "5"},
		{"other channels", []string{"/a", "/c"}, good},
		{"pattern instead", []string{"/a", "/b/*"}, good},
		{"cut", many, good[:len(good)-2]},
		{"longer", many, good + "AA"},
		{"padding", many, good + "="},
		{"not base64", many, "~!!"},
		{"only the mark", many, "~"},
		{"too long", many, "~" + strings.Repeat("A", shard.MaxCursorBytes)},
		{"other version", many, "~Ag" + good[3:]},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if at, err := shard.ParseCursor(tt.channels, tt.text); !errors.Is(err, shard.ErrCursor) {
				t.Errorf("got %v, %v, want ErrCursor", at, err)
			}
		})
	}
}

func TestParseSince(t *testing.T) {
	channels := []string{"/a"}
	for text, want := range map[string]shard.Since{
		"":                 {},
		"latest":           {},
		"earliest":         {Earliest: true},
		"0":                {At: map[shard.Slot]uint64{shard.Of("/a"): 0}},
		"9999999999999999": {At: map[shard.Slot]uint64{shard.Of("/a"): 9999999999999999}},
	} {
		got, err := shard.ParseSince(channels, text)
		if err != nil || got.Earliest != want.Earliest || !maps.Equal(got.At, want.At) {
			t.Errorf("since %q: got %+v, %v, want %+v", text, got, err, want)
		}
	}
	if _, err := shard.ParseSince(channels, "newest"); !errors.Is(err, shard.ErrCursor) {
		t.Errorf("got %v, want ErrCursor", err)
	}
}

func FuzzParseCursor(f *testing.F) {
	sets := [][]string{{"/a"}, {"/a", "/b"}, {"/a/**"}, {"/a/*", "/c"}}
	for i, set := range sets {
		f.Add(i, shard.FormatCursor(set, map[shard.Slot]uint64{shard.Of("/a"): 1 << 50}))
	}
	f.Add(0, "0")
	f.Add(1, "~AQ")
	f.Fuzz(func(t *testing.T, i int, text string) {
		set := sets[uint(i)%uint(len(sets))]
		at, err := shard.ParseCursor(set, text)
		if err != nil {
			if !errors.Is(err, shard.ErrCursor) {
				t.Fatalf("error %v is no ErrCursor", err)
			}
			return
		}
		again, err := shard.ParseCursor(set, shard.FormatCursor(set, at))
		if err != nil || !maps.Equal(at, again) {
			t.Fatalf("%q reads %v, written and read again %v, %v", text, at, again, err)
		}
	})
}
