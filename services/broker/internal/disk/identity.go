package disk

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// format is how directories are written.
const format = 1

// identity says whose a directory is.
type identity struct {
	Format  int    `json:"format"`
	Cluster string `json:"cluster,omitempty"` // empty: none yet
	LogID   string `json:"log_id"`
	// Interval: since the directory was opened last things were acknowledged
	// before they were synced.
	Interval bool `json:"interval,omitempty"`
}

// identify finds out whose the directory is and whether all that it ever
// acknowledged is there. If not it becomes another's.
func (s *Store) identify() error {
	value, err := s.get([]byte{identityKey})
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		if err := s.mustBeEmpty(); err != nil {
			return err
		}
		return s.renew()
	case err != nil:
		return judged(err)
	}
	if err := json.Unmarshal(value, &s.identity); err != nil {
		return fmt.Errorf("%w (identity: %w)", ErrDamaged, err)
	}
	if s.identity.Format != format {
		return fmt.Errorf("%w (format %d)", ErrFormat, s.identity.Format)
	}
	count, err := s.get([]byte{countKey})
	if err != nil && !errors.Is(err, pebble.ErrNotFound) {
		return judged(err)
	}
	if len(count) == 8 {
		s.batches = binary.BigEndian.Uint64(count)
	}
	clean, err := s.stopped()
	if err != nil {
		return err
	}
	if s.identity.Interval && !clean {
		s.cfg.Logger.Warn("the data directory was not cleanly stopped, and not all that was acknowledged was synced; "+
			"this broker starts empty, as a new member", slog.String("dir", s.cfg.Dir))
		return s.renew()
	}
	s.identity.Interval = s.cfg.Interval
	return s.introduce(s.db.NewBatch())
}

// mustBeEmpty refuses a directory that has everything but an identity.
func (s *Store) mustBeEmpty() error {
	it, err := s.db.NewIter(nil)
	if err != nil {
		return judged(err)
	}
	some := it.First()
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return judged(err)
	}
	if _, err := s.cfg.FS.Stat(s.mark()); some || err == nil {
		return fmt.Errorf("%w (it has no identity)", ErrDamaged)
	}
	return nil
}

// renew forgets everything and takes a new log-id.
func (s *Store) renew() error {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	s.identity = identity{Format: format, LogID: hex.EncodeToString(id), Interval: s.cfg.Interval, Cluster: s.identity.Cluster}
	b := s.db.NewBatch()
	if err := b.DeleteRange([]byte{0}, []byte{0xff}, nil); err != nil {
		return fmt.Errorf("forget the logs: %w", err)
	}
	return s.introduce(b)
}

// introduce writes the identity with a batch, synced in any case. What comes
// after it is after an unclean stop, until there is a clean one.
func (s *Store) introduce(b *pebble.Batch) error {
	value, err := json.Marshal(s.identity)
	if err != nil {
		return fmt.Errorf("encode the identity: %w", err)
	}
	if err := errors.Join(b.Set([]byte{identityKey}, value, nil), b.Commit(pebble.Sync), b.Close()); err != nil {
		return fmt.Errorf("write the identity: %w", err)
	}
	if err := s.cfg.FS.Remove(s.mark()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the mark of the last stop: %w", err)
	}
	return s.syncDir(s.cfg.Dir)
}

// Join says which cluster the member is of; the first one is remembered.
func (s *Store) Join(cluster string) error {
	switch s.identity.Cluster {
	case cluster:
		return nil
	case "":
		s.identity.Cluster = cluster
		return s.introduce(s.db.NewBatch())
	}
	return fmt.Errorf("open %s: %w (it is of cluster %s, etcd has cluster %s)", s.cfg.Dir, ErrForeign, s.identity.Cluster, cluster)
}

// mark is the file that is there after a clean stop: the log-id, and how many
// batches were written.
func (s *Store) mark() string { return filepath.Join(s.cfg.Dir, "stopped") }

// stopped reports whether the last stop was clean; then everything must be
// there that was written before it.
func (s *Store) stopped() (bool, error) {
	f, err := s.cfg.FS.Open(s.mark())
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the mark of the last stop: %w", err)
	}
	text, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return false, fmt.Errorf("read the mark of the last stop: %w", err)
	}
	if string(text) != s.farewell() {
		return false, fmt.Errorf("%w (it ends after batch %d; the last stop left %q)", ErrDamaged, s.batches, strings.TrimSpace(string(text)))
	}
	return true, nil
}

func (s *Store) farewell() string {
	return s.identity.LogID + " " + strconv.FormatUint(s.batches, 10) + "\n"
}

// stop syncs and closes the database, and leaves the mark.
func (s *Store) stop() error {
	if err := s.db.LogData(nil, pebble.Sync); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	if err := s.Close(); err != nil {
		return err
	}
	f, err := s.cfg.FS.Create(s.mark()+".new", vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("mark the stop: %w", err)
	}
	_, err = io.WriteString(f, s.farewell())
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("mark the stop: %w", err)
	}
	if err := s.cfg.FS.Rename(s.mark()+".new", s.mark()); err != nil {
		return fmt.Errorf("mark the stop: %w", err)
	}
	return s.syncDir(s.cfg.Dir)
}

func (s *Store) syncDir(path string) error {
	dir, err := s.cfg.FS.OpenDir(path)
	if err != nil {
		return fmt.Errorf("sync the directory: %w", err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("sync the directory: %w", err)
	}
	return nil
}

// get reads a value.
func (s *Store) get(key []byte) ([]byte, error) {
	value, closer, err := s.db.Get(key)
	if err != nil {
		return nil, err //nolint:wrapcheck // callers say what they read
	}
	value = append([]byte(nil), value...)
	return value, closer.Close()
}
