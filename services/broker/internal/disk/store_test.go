package disk

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/slot"
)

func open(t *testing.T, cfg Config) *Store {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// nobody is a Handler of logs that nobody uses.
type nobody struct{}

func (nobody) Synced(shard.Slot, Mark) {}

func (nobody) Checkpoint(shard.Slot) {}

// stop runs a store until it has stopped cleanly.
func stop(t *testing.T, s *Store) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx, nobody{}); err != nil {
		t.Fatal(err)
	}
}

// TestDirectory is about a real one.
func TestDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := open(t, Config{Dir: dir})
	if _, err := Open(Config{Dir: dir}); !errors.Is(err, ErrLocked) {
		t.Errorf("opened twice: %v", err)
	}
	if err := s.Join("c1"); err != nil {
		t.Fatal(err)
	}
	log := slot.New(logConfig())
	if _, err := s.Load(7, log); err != nil {
		t.Fatal(err)
	}
	log.Reset(100)
	stop(t, s)

	again := open(t, Config{Dir: dir})
	if again.ID() != s.ID() {
		t.Errorf("log-id %s after %s", again.ID(), s.ID())
	}
	if err := again.Join("c1"); err != nil {
		t.Error(err)
	}
	if err := again.Join("c2"); !errors.Is(err, ErrForeign) {
		t.Errorf("joined another cluster: %v", err)
	}
	loaded := slot.New(logConfig())
	if _, err := again.Load(7, loaded); err != nil || loaded.Base() != 100 {
		t.Errorf("base %d, %v", loaded.Base(), err)
	}
}

func TestFormat(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	s.identity.Format++
	if err := errors.Join(s.introduce(s.db.NewBatch()), s.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: dir}); !errors.Is(err, ErrFormat) {
		t.Errorf("opened another format: %v", err)
	}
}

// TestUncleanStopOfAnInterval: what was acknowledged may not have been synced,
// so the member is another one, with nothing; after a clean stop it is not.
func TestUncleanStopOfAnInterval(t *testing.T) {
	fs := vfs.NewCrashableMem()
	cfg := Config{Dir: "/data", FS: fs, Interval: true}
	first := open(t, cfg)
	stop(t, first)
	second := open(t, cfg)
	if second.ID() != first.ID() {
		t.Error("another log-id after a clean stop")
	}
	log := slot.New(logConfig())
	if _, err := second.Load(7, log); err != nil {
		t.Fatal(err)
	}
	log.Reset(100)
	if _, err := second.round(nobody{}); err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.Interval = false // which makes no difference for what was before
	third := open(t, cfg)
	loaded := slot.New(logConfig())
	if _, err := third.Load(7, loaded); err != nil || loaded.Base() != 0 || third.ID() == first.ID() {
		t.Errorf("base %d, log-id %s, %v", loaded.Base(), third.ID(), err)
	}
}

// TestIntervalSyncs crashes a second after a write.
func TestIntervalSyncs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewCrashableMem()
		s := open(t, Config{Dir: "/data", FS: fs, Interval: true})
		log := slot.New(logConfig())
		if _, err := s.Load(7, log); err != nil {
			t.Fatal(err)
		}
		log.Reset(100)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx, nobody{}) }()
		synctest.Wait()
		before := fs.CrashClone(vfs.CrashCloneCfg{})
		time.Sleep(2 * s.cfg.SyncEvery)
		synctest.Wait()
		after := fs.CrashClone(vfs.CrashCloneCfg{})
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			fs   *vfs.MemFS
			want bool
		}{{before, false}, {after, true}} {
			cut := open(t, Config{Dir: "/data", FS: c.fs})
			if cut.batches > 0 != c.want {
				t.Errorf("%d batches are there", cut.batches)
			}
			if err := cut.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestFull lets more wait than may.
func TestFull(t *testing.T) {
	s := open(t, Config{Dir: "/data", FS: vfs.NewMem(), QueueBytes: 1000})
	log := slot.New(logConfig())
	if _, err := s.Load(7, log); err != nil {
		t.Fatal(err)
	}
	log.Reset(100)
	if err := log.Adopt(1); err != nil {
		t.Fatal(err)
	}
	var err error
	for range 100 {
		if _, err = log.Append(slot.Publication{Channel: "/a", Data: make([]byte, 100)}, time.Now()); err != nil {
			break
		}
	}
	if !errors.Is(err, slot.ErrBusy) || log.End() > 110 {
		t.Errorf("%v at %d", err, log.End())
	}
	if _, err := s.round(nobody{}); err != nil {
		t.Fatal(err)
	}
	if _, err = log.Append(slot.Publication{Channel: "/a", Data: make([]byte, 100)}, time.Now()); err != nil {
		t.Errorf("after a write: %v", err)
	}
}

func TestUnwritable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: filepath.Join(file, "data")}); err == nil || errors.Is(err, ErrDamaged) {
		t.Errorf("opened below a file: %v", err)
	}
}
