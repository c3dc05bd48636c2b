package disk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/comet-push/comet/internal/shard"
)

// The errors of Open, Join and Load. Their texts say what to do.
var (
	// ErrDamaged: what is there is not what was written.
	ErrDamaged = errors.New("the data directory is damaged: move it away and start the broker again. " +
		"It comes back empty, as a new member, and gets copies of what other brokers hold; " +
		"of slots that no other broker holds, the messages are lost")
	// ErrLocked: another process works with the directory.
	ErrLocked = errors.New("another process uses the data directory: end that one, or give each broker its own --broker.data-dir")
	// ErrForeign: the directory is of another cluster.
	ErrForeign = errors.New("the data directory is of another cluster: check --etcd.endpoints and --etcd.prefix. " +
		"If etcd has lost its data, move the directory away: the broker starts empty, as a new member")
	// ErrFormat: another version of Comet wrote the directory.
	ErrFormat = errors.New("the data directory has a format that this version does not know: start the version that wrote it, " +
		"or move the directory away: the broker starts empty, as a new member")
)

// errInvalid is what damage looks like where Pebble's checksums are right.
var errInvalid = errors.New("not as it was written")

// Defaults of Config.
const (
	DefaultSyncEvery  = 100 * time.Millisecond
	DefaultQueueBytes = 64 << 20
)

// Config sets a Store up. The zero value of a field without further words is
// its default.
type Config struct {
	// Dir is the data directory; it is made if there is none.
	Dir string
	// Interval: what was written counts as kept before it is synced, and is
	// synced SyncEvery.
	Interval  bool
	SyncEvery time.Duration
	// QueueBytes is how much may wait to be written before logs are Full.
	QueueBytes int
	// FS is where Dir is; nil: the system's.
	FS vfs.FS
	// Registerer gets metrics; nil: none.
	Registerer prometheus.Registerer
	// Logger gets logs; nil: none.
	Logger *slog.Logger
}

// Handler hears from a Store, without any lock held, from one goroutine.
type Handler interface {
	// Synced tells how far the changes of a slot are kept: pass it to its
	// Journal, under the slot's lock.
	Synced(n shard.Slot, m Mark)
	// Checkpoint asks for a Snapshot of a slot: pass it to its Journal's
	// Checkpoint, under the same lock.
	Checkpoint(n shard.Slot)
}

// Store keeps the logs of all slots of one member.
type Store struct {
	cfg      Config
	pace     pace
	db       *pebble.DB
	cache    *pebble.Cache
	lock     *pebble.Lock
	identity identity
	metrics  *metrics
	failed   chan error // holds the first failure
	wake     chan struct{}
	close    sync.Once

	journals [shard.Slots]*Journal

	mu     sync.Mutex
	bytes  int  // that wait to be written
	broken bool // nothing is written any more

	// The writer's own.
	batches uint64 // written in all of the directory's life
	first   int    // slot that comes first
}

// Open opens a data directory, or makes one. Close it, unless Run did.
func Open(cfg Config) (*Store, error) {
	if cfg.SyncEvery <= 0 {
		cfg.SyncEvery = DefaultSyncEvery
	}
	if cfg.QueueBytes <= 0 {
		cfg.QueueBytes = DefaultQueueBytes
	}
	if cfg.FS == nil {
		cfg.FS = vfs.Default
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Registerer == nil {
		cfg.Registerer = prometheus.NewRegistry()
	}
	s := &Store{cfg: cfg, pace: usualPace(), failed: make(chan error, 1), wake: make(chan struct{}, 1)}
	for n := range s.journals {
		s.journals[n] = &Journal{store: s, number: shard.Slot(n)}
	}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("open %s: %w", cfg.Dir, err)
	}
	s.metrics = newMetrics(cfg.Registerer, s)
	return s, nil
}

func (s *Store) open() (err error) {
	if err := s.cfg.FS.MkdirAll(s.path(), 0o700); err != nil {
		return fmt.Errorf("make it: %w", err)
	}
	for _, dir := range []string{s.cfg.Dir, filepath.Dir(filepath.Clean(s.cfg.Dir))} { // it may be new
		if err := s.syncDir(dir); err != nil && !errors.Is(err, os.ErrPermission) {
			return err
		}
	}
	// Pebble tells of an unreadable file by an error, of some other things that
	// it did not expect by a panic.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w (%v)", ErrDamaged, r)
		}
		if err != nil && s.db != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	s.lock, err = pebble.LockDirectory(s.path(), s.cfg.FS)
	if _, file := errors.AsType[*os.PathError](err); err != nil && !file {
		return fmt.Errorf("%w (%w)", ErrLocked, err)
	} else if err != nil {
		return fmt.Errorf("lock it: %w", err)
	}
	s.cache = pebble.NewCache(8 << 20)
	s.db, err = pebble.Open(s.path(), s.options())
	if err != nil {
		s.cache.Unref()
		err = errors.Join(err, s.lock.Close())
		if _, system := errors.AsType[syscall.Errno](err); !system {
			return fmt.Errorf("%w (%w)", ErrDamaged, err) // a file that says what it cannot
		}
		return judged(err)
	}
	return s.identify()
}

// path is where the database is: beside a file system's own lost+found, and the
// mark of a clean stop.
func (s *Store) path() string { return filepath.Join(s.cfg.Dir, "slots") }

// options are those of the database. What is written is read once, after a
// restart, and most of it is deleted soon: so files are merged late, and into
// few levels, which writes a little over half of what the defaults do.
func (s *Store) options() *pebble.Options {
	o := &pebble.Options{
		FS:                          s.cfg.FS,
		Cache:                       s.cache,
		Lock:                        s.lock,
		FormatMajorVersion:          pebble.FormatNewest,
		MemTableSize:                64 << 20,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       32,
		L0StopWritesThreshold:       1000,
		LBaseMaxBytes:               64 << 30,
		Logger:                      logger{s},
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) {
				if !errors.Is(err, pebble.ErrCancelledCompaction) {
					s.fail(err)
				}
			},
			DataCorruption: func(info pebble.DataCorruptionInfo) { s.fail(info.Details) },
		},
	}
	return o
}

// judged says what an error of the database means to an operator.
func judged(err error) error {
	switch {
	case pebble.IsCorruptionError(err), errors.Is(err, os.ErrNotExist), errors.Is(err, errInvalid):
		return fmt.Errorf("%w (%w)", ErrDamaged, err)
	}
	return err
}

// ID is the log-id: 128 random bits in hex, as old as the logs.
func (s *Store) ID() string { return s.identity.LogID }

// Close closes a Store that does not run. After a failure of the disk it does
// nothing: what is left of the database may never let go.
func (s *Store) Close() error {
	if s.lost() {
		return nil
	}
	var err error
	s.close.Do(func() {
		if err = errors.Join(s.db.Close(), s.lock.Close()); err != nil {
			err = fmt.Errorf("close %s: %w", s.cfg.Dir, err)
		}
		s.cache.Unref()
	})
	return err
}

// put queues a change.
func (s *Store) put(j *Journal, c change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return
	}
	j.changes = append(j.changes, c)
	s.bytes += c.cost()
	s.rouse()
}

func (s *Store) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// full reports whether more waits to be written than should.
func (s *Store) full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken || s.bytes >= s.cfg.QueueBytes
}

// lost reports whether the disk failed.
func (s *Store) lost() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken
}

// waiting is how many bytes wait to be written.
func (s *Store) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}

// fail ends the Store: after an error of the disk nothing is known of what was
// written last, and it is not tried again.
func (s *Store) fail(err error) {
	s.drop()
	select {
	case s.failed <- err:
	default:
	}
}

// drop forgets what waits, and takes nothing more.
func (s *Store) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = true
	for _, j := range s.journals {
		j.changes = nil
	}
}

// Run writes what logs tell, until ctx ends; then it writes the rest and marks
// the directory as cleanly stopped. An error of the disk ends it.
func (s *Store) Run(ctx context.Context, h Handler) error {
	syncing, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		var tasks sync.WaitGroup
		defer tasks.Wait()
		defer cancel()
		if s.cfg.Interval {
			tasks.Go(func() {
				defer s.guard()
				s.syncs(syncing)
			})
		}
		defer s.guard()
		s.work(ctx, h)
	}()
	select {
	case <-done:
	case err := <-s.failed: // some goroutine may hold the database's locks for ever
		return s.failure(err)
	}
	select {
	case err := <-s.failed:
		return s.failure(err)
	default:
	}
	if err := s.stop(); err != nil {
		return s.failure(err)
	}
	return nil
}

func (s *Store) failure(err error) error {
	return fmt.Errorf("the disk under %s failed; nothing is known of what was written last, so this broker stops and others take over: %w",
		s.cfg.Dir, err)
}

// logger takes the logs of the database.
type logger struct{ s *Store }

// Infof implements [pebble.Logger].
func (logger) Infof(string, ...any) {}

// Errorf implements [pebble.Logger].
func (l logger) Errorf(format string, args ...any) {
	l.s.cfg.Logger.Error("the database complains", slog.String("text", fmt.Sprintf(format, args...)))
}

// Fatalf implements [pebble.Logger]. It must not return.
func (l logger) Fatalf(format string, args ...any) {
	l.s.fail(fmt.Errorf(format, args...))
	select {}
}
