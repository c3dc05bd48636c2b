package disk

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
	"github.com/comet-push/comet/services/broker/internal/slot"
)

// image is what a log was after one of its changes.
type image struct {
	number     uint64
	base, term uint64
	entries    string
}

// kept is a log, and all that it was in this life of its process.
type kept struct {
	log     *slot.Slot
	journal *Journal
	images  []image
	synced  uint64
}

// life is one process with a disk.
type life struct {
	t     *testing.T
	rng   *rand.Rand
	fs    *vfs.MemFS
	store *Store
	slots [3]kept
}

var testPace = pace{batch: 2000, piece: 200, turn: 300, checkpoint: 1500}

func logConfig() slot.Config {
	return slot.Config{
		LogBytes:  500,
		Retention: history.Config{Class: func(string) history.Class { return history.Class{Messages: 10000, Bytes: 1 << 30} }},
	}
}

func begin(t *testing.T, rng *rand.Rand, fs *vfs.MemFS) (*life, error) {
	l := &life{t: t, rng: rng, fs: fs}
	var err error
	if l.store, err = Open(Config{Dir: "/data", FS: fs}); err != nil {
		return nil, err
	}
	l.store.pace = testPace
	for n := range l.slots {
		k := &l.slots[n]
		k.log = slot.New(logConfig())
		if k.journal, err = l.store.Load(shard.Slot(n), k.log); err != nil {
			return nil, err
		}
		if held := k.log.Held(); held != k.log.End() {
			t.Fatalf("slot %d holds %d of %d", n, held, k.log.End())
		}
		k.note()
	}
	return l, nil
}

// Synced implements Handler.
func (l *life) Synced(n shard.Slot, m Mark) {
	l.slots[n].journal.Synced(m)
	l.slots[n].synced = m.number
}

// Checkpoint implements Handler.
func (l *life) Checkpoint(n shard.Slot) {
	k := &l.slots[n]
	k.journal.Checkpoint(k.log.Snapshot())
	k.note()
}

func (k *kept) note() {
	k.images = append(k.images, image{k.journal.told, k.log.Base(), k.log.Term(), content(k.log)})
}

// content is all that there is in a log.
func content(log *slot.Slot) string {
	var all []*history.Entry
	if log.Committed() > log.Base() {
		page, err := log.Read(history.Query{Names: []string{"/**"}, Since: log.Base(), Limit: 1 << 30})
		if err != nil || page.Lost || len(page.Gone) > 0 {
			return fmt.Sprint(page, err)
		}
		all = page.Entries
	}
	for at := log.Committed(); at < log.End(); {
		more := log.After(at, 1<<20)
		all = append(all, more...)
		at = more[len(more)-1].Offset
	}
	text := ""
	for _, e := range all {
		text += fmt.Sprintln(e.Offset, e.Prev, e.Term, e.Time, e.Channel, e.Key, string(e.Data))
	}
	return text
}

// step changes a log.
func (l *life) step() {
	k := &l.slots[l.rng.IntN(len(l.slots))]
	log := k.log
	if log.Base() == 0 {
		log.Reset(uint64(1+l.rng.IntN(1000)) << 20)
		k.note()
		l.adopt(k)
		return
	}
	switch at := l.rng.IntN(100); {
	case at < 60:
		l.append(log)
	case at < 80:
		if ahead := log.End() - log.Committed(); ahead > 0 {
			log.Commit(log.Committed() + 1 + uint64(l.rng.IntN(int(ahead))))
		}
		return
	case at < 88:
		if err := log.Cut(log.End() - uint64(l.rng.IntN(int(log.End()-log.Committed())+1))); err != nil {
			l.t.Fatal(err)
		}
	case at < 94:
		l.adopt(k)
	case at < 98:
		l.adopt(k)
		l.restore(log)
	case at < 99:
		log.Reset(log.Base() + 1<<20)
	default:
		log.Reset(0)
	}
	k.note()
}

func (l *life) adopt(k *kept) {
	if err := k.log.Adopt(k.log.Term() + 1); err != nil {
		l.t.Fatal(err)
	}
	k.note()
}

func (l *life) append(log *slot.Slot) {
	p := slot.Publication{
		Channel: fmt.Sprintf("/c/%d", l.rng.IntN(4)), Key: fmt.Sprint(l.rng.Uint64()),
		Data: slices.Repeat([]byte{byte('a' + l.rng.IntN(26))}, l.rng.IntN(200)),
	}
	if _, err := log.Append(p, time.UnixMilli(int64(log.End())%1000)); err != nil {
		l.t.Fatal(err)
	}
}

// restore makes a log what another one is.
func (l *life) restore(log *slot.Slot) {
	other := slot.New(logConfig())
	other.Reset(log.Base())
	if err := other.Adopt(log.Term()); err != nil {
		l.t.Fatal(err)
	}
	for other.End() < log.Committed()+uint64(l.rng.IntN(30)) {
		l.append(other)
	}
	other.Commit(other.End())
	_, next := other.Snapshot()
	pieces := [][]byte{}
	for p := next(100); p != nil; p = next(100) {
		pieces = append(pieces, p)
	}
	for i, p := range pieces {
		if err := log.Restore(i, p, i == len(pieces)-1); err != nil {
			l.t.Fatal(err)
		}
	}
}

// check compares what is there now with what was there before.
func (l *life) check(before *life) {
	for n := range l.slots {
		now, was := &l.slots[n], &before.slots[n]
		found := slices.ContainsFunc(was.images, func(i image) bool {
			return i.number >= was.synced && i.base == now.log.Base() && i.term == now.log.Term() && i.entries == content(now.log)
		})
		if !found {
			l.t.Fatalf("slot %d came back with base %d, term %d,\n%s\nafter %d was synced; it was %v",
				n, now.log.Base(), now.log.Term(), content(now.log), was.synced, was.images)
		}
		if held := was.log.Held(); held > 0 && !strings.HasPrefix(content(now.log), upTo(content(was.log), held)) {
			l.t.Fatalf("slot %d held everything to %d:\n%s\nand came back with\n%s", n, held, content(was.log), content(now.log))
		}
		if was.log.Held() > 0 && (now.log.Base() != was.log.Base() || now.log.Term() != was.log.Term()) {
			l.t.Fatalf("slot %d held base %d, term %d, and came back with %d, %d", n, was.log.Base(), was.log.Term(), now.log.Base(), now.log.Term())
		}
		if log := now.log; log.Committed() > log.End() || log.Committed() < log.Base() {
			l.t.Fatalf("slot %d is committed to %d of %d", n, log.Committed(), log.End())
		}
	}
}

// upTo is the part of a content with offsets up to one.
func upTo(text string, last uint64) string {
	lines := strings.SplitAfter(text, "\n")
	for i, line := range lines {
		var offset uint64
		if _, err := fmt.Sscan(line, &offset); err != nil || offset > last {
			return strings.Join(lines[:i], "")
		}
	}
	return text
}

// TestWhatSurvivesIsWhatWas plays changes, and crashes between and after
// writes, with some of what was not synced there and some not.
func TestWhatSurvivesIsWhatWas(t *testing.T) {
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 2))
		l, err := begin(t, rng, vfs.NewCrashableMem())
		if err != nil {
			t.Fatal(err)
		}
		for range 6 {
			for range 20 + rng.IntN(200) {
				l.step()
				for rng.IntN(8) == 0 {
					if _, err := l.store.round(l); err != nil {
						t.Fatal(err)
					}
				}
			}
			fs := l.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
			if err := l.store.Close(); err != nil {
				t.Fatal(err)
			}
			next, err := begin(t, rng, fs)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if next.store.ID() != l.store.ID() {
				t.Fatal("the log-id changed")
			}
			next.check(l)
			l = next
		}
		if err := l.store.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
