// Package admission paces how many clients begin in a second, so that a storm of
// them is spread over time and those who are there already are served meanwhile.
//
//  1. No more begin than a rate allows, and what it allows in two seconds at
//     once.
//  2. Who is refused is told when to come again: those refused before come
//     first, so that all who keep to it begin at the rate, in the order in which
//     they came, give or take some jitter.
//  3. Nothing is remembered of those who are refused but how many they are.
package admission

import (
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// burst is how many seconds' worth may begin at once.
	burst = 2
	// least and most bound what clients are asked to wait, before jitter.
	least, most = 500 * time.Millisecond, time.Minute
)

// Gate lets clients in. It is safe for concurrent use.
type Gate struct {
	perSecond float64
	limiter   *rate.Limiter

	mu     sync.Mutex // leaf
	behind float64    // clients that were refused and whose turn has not come
	since  time.Time  // the time that this is of
}

// New returns a gate that lets so many clients in a second.
func New(perSecond int) *Gate {
	return &Gate{perSecond: float64(perSecond), limiter: rate.NewLimiter(rate.Limit(perSecond), burst*perSecond)}
}

// Admit reports whether one more client may begin. If not it should come again
// after a time that has up to half of it added as jitter.
func (g *Gate) Admit(now time.Time) (after time.Duration, ok bool) {
	if g.limiter.AllowN(now, 1) {
		return 0, true
	}
	turn := least + g.queue(now)
	return turn + rand.N(turn/2), false
}

// queue counts one more client that waits, and returns when its turn is.
func (g *Gate) queue(now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if gone := now.Sub(g.since).Seconds(); gone > 0 {
		g.behind, g.since = max(g.behind-gone*g.perSecond, 0), now
	}
	g.behind = min(g.behind+1, most.Seconds()*g.perSecond)
	return time.Duration(g.behind / g.perSecond * float64(time.Second))
}
