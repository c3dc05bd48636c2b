package history

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// feed appends as a primary does: dense offsets, prev from Tail.
type feed struct {
	*History
	now time.Time
	log []*Entry // everything ever added
}

const base = 1000

// Classes go by the first segment: /n/… keeps nothing, /s/… a second, /c/… four
// messages, /b/… two (90 bytes), the rest an hour.
func testClass(channel string) Class {
	switch {
	case strings.HasPrefix(channel, "/n/"):
		return Class{}
	case strings.HasPrefix(channel, "/s/"):
		return Class{Messages: 1000, Age: time.Second}
	case strings.HasPrefix(channel, "/c/"):
		return Class{Messages: 4}
	case strings.HasPrefix(channel, "/b/"):
		return Class{Messages: 1000, Bytes: 90}
	}
	return Class{Messages: 1000, Age: time.Hour}
}

func newFeed(cfg Config) *feed {
	cfg.Base = base
	if cfg.LogBytes == 0 {
		cfg.LogBytes = 1 // what is not retained is not kept either
	}
	if cfg.Class == nil {
		cfg.Class = testClass
	}
	return &feed{History: New(cfg), now: time.Unix(1_700_000_000, 0)}
}

func (f *feed) add(channel string) *Entry {
	at := f.Tail(channel)
	e := (&Entry{
		Channel: at.Name,
		Offset:  base + uint64(len(f.log)) + 1,
		Prev:    at.Prev,
		Time:    f.now.UnixMilli(),
		Data:    []byte(`"12345"`),
	}).Seal()
	f.log = append(f.log, e)
	f.Add(e)
	return e
}

func (f *feed) pass(d time.Duration) {
	f.now = f.now.Add(d)
	for f.Expire(f.now, 3) {
	}
}

// read reads forward and returns offsets relative to base, or lost.
func (f *feed) read(channel string, since uint64) string {
	page := f.Read(Query{Channel: channel, Since: base + since, Limit: 1000})
	if page.Lost {
		return "lost"
	}
	return offsets(page.Entries)
}

// retained returns the retained entries after an offset.
func (f *feed) retained(after uint64) []*Entry {
	var entries []*Entry
	for e := range f.After(after) {
		entries = append(entries, e.Entry())
	}
	return entries
}

func same(a, b []*Entry) bool {
	return slices.EqualFunc(a, b, func(a, b *Entry) bool { return reflect.DeepEqual(a, b) })
}

// takes is the footprint of an entry.
func takes(e *Entry) int { return footprint(e.Size()) }

func offsets(entries []*Entry) string {
	var b strings.Builder
	for _, e := range entries {
		fmt.Fprint(&b, e.Offset-base, " ")
	}
	return strings.TrimSpace(b.String())
}

func check[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
