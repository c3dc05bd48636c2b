package webhook

import (
	"time"

	"github.com/comet-push/comet/internal/backoff"
)

const (
	saveEvery = time.Second      // after deliveries
	idleEvery = 10 * time.Second // else: a position that stands still becomes too old
)

// Courier knows how far a backend is in one channel of events.
type Courier struct {
	at       uint64 // 0: nowhere yet
	saved    uint64
	savedAt  time.Time
	told     bool // events, since it was saved
	failures int
}

// NewCourier goes on at a position that was saved; 0: at the beginning.
func NewCourier(saved uint64, now time.Time) *Courier {
	return &Courier{at: saved, saved: saved, savedAt: now}
}

// At returns after which position to go on; 0: with everything retained.
func (c *Courier) At() uint64 { return c.at }

// Told says that the backend has taken everything up to a position, which had
// events.
func (c *Courier) Told(through uint64) {
	c.at, c.told, c.failures = through, true, 0
}

// Passed says that there are no more events up to a position.
func (c *Courier) Passed(through uint64) { c.at = max(c.at, through) }

// Lost says that what followed is not retained any more: it goes on with what is.
func (c *Courier) Lost() { c.at = 0 }

// Failed says that the backend did not take events. It returns how long to wait
// before they are sent again: twice as long each time, up to a minute.
func (c *Courier) Failed() time.Duration {
	c.failures++
	return backoff.Policy{Base: time.Second, Max: time.Minute}.Delay(c.failures)
}

// Due returns in how much time the position should be saved; false if it is.
func (c *Courier) Due(now time.Time) (time.Duration, bool) {
	if c.at == c.saved || c.at == 0 {
		return 0, false
	}
	every := idleEvery
	if c.told {
		every = saveEvery
	}
	return max(0, every-now.Sub(c.savedAt)), true
}

// Saved says that a position was saved.
func (c *Courier) Saved(at uint64, now time.Time) {
	c.saved, c.savedAt, c.told = at, now, c.told && at != c.at
}
