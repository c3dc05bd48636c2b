package edge

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/comet-push/comet/internal/backoff"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/services/edge/internal/clientid"
)

const (
	// keysEvery is how often an edge looks whether a new key is due.
	keysEvery = time.Hour
	// keysPause is between two looks that clientIds of unknown keys ask for.
	keysPause = time.Second
)

// keyring keeps the keys that all edges make clientIds with.
type keyring struct {
	directory membership.Directory
	logger    *slog.Logger
	bind      bool // clientIds are bound to browsers
	ring      atomic.Pointer[clientid.Ring]
	wanted    chan chan struct{} // closed once the keys have been read
}

func newKeyring(d membership.Directory, logger *slog.Logger, bind bool) *keyring {
	return &keyring{directory: d, logger: logger, bind: bind, wanted: make(chan chan struct{})}
}

// run reads the keys, and makes new ones when they are due, until ctx ends.
func (k *keyring) run(ctx context.Context) error {
	for {
		k.renew(ctx)
		next := time.NewTimer(keysEvery)
		select {
		case <-ctx.Done():
			next.Stop()
			return nil
		case <-next.C:
		case read := <-k.wanted:
			next.Stop()
			k.renew(ctx)
			close(read)
			backoff.Pause(ctx, keysPause)
		}
	}
}

// renew brings the keys up to date, and tries again until it has, or ctx ends.
func (k *keyring) renew(ctx context.Context) {
	pace := backoff.Policy{Base: 50 * time.Millisecond, Max: time.Second}
	for failures := 1; ctx.Err() == nil; failures++ {
		err := k.read(ctx)
		switch {
		case err == nil:
			return
		case !errors.Is(err, membership.ErrConflict):
			k.logger.Warn("the keys of clientIds cannot be read", slog.Any("error", err))
		}
		backoff.Pause(ctx, pace.Delay(failures))
	}
}

func (k *keyring) read(ctx context.Context) error {
	text, version, err := k.directory.Secret(ctx)
	if err != nil {
		return err
	}
	ring, err := clientid.Parse(text)
	if err != nil {
		return err
	}
	if now := time.Now(); ring.Due(now) {
		ring = ring.Next(now)
		if err := k.directory.SetSecret(ctx, ring.Format(), version); err != nil {
			return err // if it was written after all the next read has it
		}
	}
	k.ring.Store(&ring)
	return nil
}

// keys are those that are known; none before the directory has answered.
func (k *keyring) keys() clientid.Ring {
	if r := k.ring.Load(); r != nil {
		return *r
	}
	return nil
}

// forged reports whether a clientId was made by nobody who has the keys, or for
// another browser. One whose key is not known is not forged as far as is known.
func (k *keyring) forged(id, browser string) bool {
	keys := k.keys()
	return !clientid.WellFormed(id) || keys.Knows(id) && !keys.Valid(id, k.bound(browser))
}

// valid reports whether a clientId is none that was forged, and looks for its
// key if it has to.
func (k *keyring) valid(ctx context.Context, id, browser string) bool {
	if !k.keys().Knows(id) {
		read := make(chan struct{})
		select {
		case k.wanted <- read:
			<-read // the run does not leave it open
		case <-ctx.Done():
			return false
		}
	}
	return k.keys().Valid(id, k.bound(browser))
}

func (k *keyring) bound(browser string) string {
	if k.bind {
		return browser
	}
	return ""
}
