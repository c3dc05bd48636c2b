package load

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestReadStat(t *testing.T) {
	for _, tt := range []struct {
		text string
		want process
		err  string
	}{
		{
			text: "27505 (comet) S 1 27505 27505 0 -1 4194560 1 2 3 4 150 50 7 3 20 0 9 0 100 1 2 3",
			want: process{parent: 1, cpu: 2100 * time.Millisecond},
		},
		{
			text: "7 (a ) R 1 (b) S 6 7 7 0 -1 4194560 1 2 3 4 1 0 0 0 20 0 9 0 100 1 2 3",
			want: process{parent: 6, cpu: 10 * time.Millisecond},
		},
		{text: "7 (x) S 1 2", err: "too short"},
		{text: "7 (x) S one 7 7 0 -1 4194560 1 2 3 4 1 0 0 0 20", err: "reading the parent"},
		{text: "7 (x) S 1 7 7 0 -1 4194560 1 2 3 4 1 much 0 0 20", err: "reading CPU time"},
	} {
		got, err := readStat([]byte(tt.text))
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: %v, want %s", tt.text, err, tt.err)
			}
			continue
		}
		if err != nil || got != tt.want {
			t.Errorf("%s: %+v %v, want %+v", tt.text, got, err, tt.want)
		}
	}
}

func TestReadPSS(t *testing.T) {
	text := "00400000-7fff Rollup\nRss:            9000 kB\nPss:            8123 kB\nPss_Dirty:      4 kB\n"
	if got, err := readPSS([]byte(text)); err != nil || got != 8123<<10 {
		t.Errorf("%d %v", got, err)
	}
	if _, err := readPSS([]byte("Rss: 1 kB\n")); err == nil {
		t.Error("no error without the line")
	}
}

func TestReadMachine(t *testing.T) {
	m, err := readMachine([]byte("cpu  100 10 50 700 40 3 2 5 90 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n"))
	want := machine{busy: 1700 * time.Millisecond, all: 9100 * time.Millisecond}
	if err != nil || m != want {
		t.Errorf("%+v %v, want %+v", m, err, want)
	}
	if _, err := readMachine([]byte("intr 1 2 3\n")); err == nil {
		t.Error("no error without the line")
	}
}

func TestDescend(t *testing.T) {
	all := map[int]process{1: {}, 2: {parent: 1}, 3: {parent: 2}, 4: {parent: 1}, 5: {parent: 3}}
	got := slices.Sorted(maps.Keys(descend(all, 2, all[2])))
	if diff := cmp.Diff([]int{2, 3, 5}, got); diff != "" {
		t.Error(diff)
	}
}

// TestOwnProcess reads the real files of this process.
func TestOwnProcess(t *testing.T) {
	if _, err := serverCPU(os.Getpid()); err != nil {
		t.Error(err)
	}
	if pss, err := serverPSS(os.Getpid()); err != nil || pss < 1<<20 {
		t.Errorf("%d bytes, %v", pss, err)
	}
	if m, err := machineCPU(); err != nil || m.all < m.busy || m.busy == 0 {
		t.Errorf("%+v %v", m, err)
	}
	if _, err := serverCPU(1 << 30); err == nil || !strings.Contains(err.Error(), "--pid") {
		t.Error(err)
	}
	if err := openFiles(1 << 60); err == nil || !strings.Contains(err.Error(), "ulimit") {
		t.Error(err)
	}
}
