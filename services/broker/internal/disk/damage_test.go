package disk

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/slot"
)

// damage changes one file of a copy of a disk: a few of its bytes, or where it
// ends.
func damage(t *testing.T, rng *rand.Rand, fs *vfs.MemFS) (what string) {
	t.Helper()
	var files []string
	for _, dir := range []string{"/data", "/data/slots"} {
		names, err := fs.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if info, err := fs.Stat(dir + "/" + name); err == nil && !info.IsDir() && info.Size() > 0 {
				files = append(files, dir+"/"+name)
			}
		}
	}
	path := files[rng.IntN(len(files))]
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	at := rng.IntN(len(text))
	if rng.IntN(3) == 0 {
		text, what = text[:at], "truncated "
	} else {
		for i := at; i < min(at+1+rng.IntN(4), len(text)); i++ {
			text[i] ^= byte(1 + rng.IntN(255))
		}
		what = "changed "
	}
	f, err = fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return what + path
}

// TestDamage changes bytes of files, of a directory that was stopped cleanly or
// not. It is refused, or everything is there, or, after a crash, what was there
// after some change: never anything else.
func TestDamage(t *testing.T) {
	refused, whole, earlier := 0, 0, 0
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 3))
		l, err := begin(t, rng, vfs.NewCrashableMem())
		if err != nil {
			t.Fatal(err)
		}
		for range 400 {
			l.step()
			if _, err := l.store.round(l); err != nil {
				t.Fatal(err)
			}
		}
		clean := seed%2 == 0
		if clean {
			done, cancel := context.WithCancel(t.Context())
			cancel()
			if err := l.store.Run(done, l); err != nil {
				t.Fatal(err)
			}
		}
		for range 20 {
			fs := l.fs.CrashClone(vfs.CrashCloneCfg{})
			what := damage(t, rng, fs)
			next, err := begin(t, rng, fs)
			if err != nil {
				if !errors.Is(err, ErrDamaged) {
					t.Fatalf("seed %d: %s: %v", seed, what, err)
				}
				refused++
				continue
			}
			if next.compare(l) {
				whole++
			} else {
				earlier++
				if clean {
					t.Fatalf("seed %d: %s after a clean stop, and something is missing", seed, what)
				}
			}
			if err := next.store.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if !clean {
			if err := l.store.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("refused %d, whole %d, earlier %d", refused, whole, earlier)
	if refused == 0 || whole == 0 || earlier == 0 {
		t.Error("not everything was tried")
	}
}

// compare reports whether everything is there; each slot must be as it once was.
func (l *life) compare(before *life) (whole bool) {
	whole = true
	for n := range l.slots {
		now, was := &l.slots[n], before.slots[n].images
		last := len(was) - 1
		for ; last >= 0; last-- {
			if i := was[last]; i.base == now.log.Base() && i.term == now.log.Term() && i.entries == content(now.log) {
				break
			}
		}
		if last < 0 && (now.log.Base() != 0 || now.log.Term() != 0) {
			l.t.Fatalf("slot %d came back with base %d, term %d,\n%s", n, now.log.Base(), now.log.Term(), content(now.log))
		}
		whole = whole && last == len(was)-1
	}
	return whole
}

// TestFailedWrite lets the disk fail. The store ends, and tells of nothing
// that is not there when it starts again.
func TestFailedWrite(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 4))
		mem := vfs.NewCrashableMem()
		fails := errorfs.Toggle{Injector: errorfs.InjectorFunc(func(op errorfs.Op) error {
			if strings.HasSuffix(op.Path, ".log") && (op.Kind == errorfs.OpFileWrite || op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData) {
				return syscall.ENOSPC
			}
			return nil
		})}
		l, err := begin(t, rng, mem)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.store.Close(); err != nil {
			t.Fatal(err)
		}
		store, err := Open(Config{Dir: "/data", FS: errorfs.Wrap(mem, &fails)})
		if err != nil {
			t.Fatal(err)
		}
		l.store = store
		for n := range l.slots {
			k := &l.slots[n]
			k.log, k.images, k.synced = slot.New(logConfig()), nil, 0
			if k.journal, err = store.Load(shard.Slot(n), k.log); err != nil {
				t.Fatal(err)
			}
			k.note()
		}
		for range 50 + rng.IntN(100) {
			l.step()
		}
		if _, err := store.round(l); err != nil {
			t.Fatal(err)
		}
		fails.On()
		for range 50 {
			l.step()
		}
		if err := store.Run(t.Context(), l); err == nil || !strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
			t.Fatalf("Run ended with %v", err)
		}
		if !store.full() {
			t.Error("publishes are still taken")
		}
		next, err := begin(t, rng, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng}))
		if err != nil {
			t.Fatal(err)
		}
		next.check(l)
		if err := next.store.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
