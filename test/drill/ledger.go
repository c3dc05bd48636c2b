package drill

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// body is what a message carries.
type body struct {
	N  int   `json:"n"`
	At int64 `json:"at"` // when it was due: microseconds since 1970
}

// post is one message to publish.
type post struct {
	channel string
	n       int
	due     time.Time
	data    []byte
	key     string
}

// ledger knows what was published and what was seen.
type ledger struct {
	mu        sync.Mutex
	open      map[*post]struct{} // due, and not acknowledged
	acked     map[string]int     // by channel, the newest
	followers []*account
	faults    []string
	figures   *figures // of the drill that is under way
}

// figures are what publishers and followers noticed in a drill.
type figures struct {
	begin    time.Time
	end      time.Time // zero: it goes on
	acks     []time.Duration
	longest  time.Duration // of these
	arrivals []time.Duration
	retries  map[string]int           // what publishers were told before they tried again
	worst    map[string]time.Duration // by channel
	slowest  string                   // which message was acknowledged last after it was due
}

func newLedger() *ledger {
	return &ledger{open: map[*post]struct{}{}, acked: map[string]int{}, figures: newFigures()}
}

func newFigures() *figures {
	return &figures{begin: time.Now(), retries: map[string]int{}, worst: map[string]time.Duration{}}
}

// due notes that a message is to be published.
func (l *ledger) due(channel string, n int, at time.Time) *post {
	p := &post{
		channel: channel, n: n, due: at,
		data: fmt.Appendf(nil, `{"n":%d,"at":%d}`, n, at.UnixMicro()), key: fmt.Sprintf("%s#%d", channel, n),
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[p] = struct{}{}
	return p
}

// published notes that a message was acknowledged, and by which door.
func (l *ledger) published(p *post, through string) {
	took := time.Since(p.due)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, p)
	l.acked[p.channel] = max(p.n, l.acked[p.channel])
	if f := l.figures; f.covers(p.due) {
		f.acks = append(f.acks, took)
		if took >= f.longest {
			f.longest, f.slowest = took, fmt.Sprintf("%d of %s, due %s, through %s", p.n, p.channel, p.due.Format("15:04:05.000"), through)
		}
		f.worst[p.channel] = max(f.worst[p.channel], took)
	}
}

// covers reports whether what was due then belongs to the drill.
func (f *figures) covers(due time.Time) bool {
	return !due.Before(f.begin) && (f.end.IsZero() || due.Before(f.end))
}

// retried notes why a publisher tries again.
func (l *ledger) retried(why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.figures.retries[why]++
}

// fault notes what must not be.
func (l *ledger) fault(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faultLocked(format, args...)
}

func (l *ledger) faultLocked(format string, args ...any) {
	l.faults = append(l.faults, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// start begins the figures of a drill.
func (l *ledger) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.figures = newFigures()
}

// finish says that what is due from now on does not belong to the drill.
func (l *ledger) finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.figures.end = time.Now()
}

// behind returns an error while something that belongs to the drill is not
// acknowledged, or has not reached somebody.
func (l *ledger) behind() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	waiting := 0
	for p := range l.open {
		if p.due.Before(l.figures.end) {
			waiting++
		}
	}
	if waiting > 0 {
		return fmt.Errorf("%d messages are not acknowledged", waiting)
	}
	for _, a := range l.followers {
		for channel, n := range l.acked {
			if seen := a.seen[channel].n; seen < n {
				return fmt.Errorf("%s has seen %s to %d, and %d is acknowledged", a.name, channel, seen, n)
			}
		}
	}
	return nil
}

// take returns the figures of the drill, and what must not have been.
func (l *ledger) take() (*figures, []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, faults := l.figures, l.faults
	l.faults = nil
	return f, faults
}

// at is the value below which a part of sorted values lie; the highest for 1.
func at(sorted []time.Duration, part float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(part*float64(len(sorted))), len(sorted)-1)]
}

// recovery is the longest that a message waited for its acknowledgement.
func (f *figures) recovery() time.Duration { return f.longest }

// slow counts the channels of which a message waited longer.
func (f *figures) slow(than time.Duration) int {
	slow := 0
	for _, worst := range f.worst {
		if worst > than {
			slow++
		}
	}
	return slow
}

// why is what publishers were told, with how often.
func (f *figures) why() string {
	var all []string
	for _, why := range slices.Sorted(maps.Keys(f.retries)) {
		all = append(all, fmt.Sprintf("%s %d", why, f.retries[why]))
	}
	return strings.Join(all, ", ")
}

// account is what one follower has seen.
type account struct {
	*ledger
	name string
	seen map[string]sight
	told map[string]bool // channels that may begin anew after what was seen
}

// sight is the newest message seen of a channel.
type sight struct {
	n        int
	position uint64
}

func (l *ledger) account(name string) *account {
	a := &account{ledger: l, name: name, seen: map[string]sight{}, told: map[string]bool{}}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.followers = append(l.followers, a)
	return a
}

// saw notes a message; position is 0 if it was not said.
func (a *account) saw(channel string, b body, position uint64) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	last := a.seen[channel]
	switch {
	case b.N == last.n+1 && (position == 0 || position > last.position):
		a.seen[channel] = sight{b.N, position}
		delete(a.told, channel)
		if due := time.UnixMicro(b.At); a.figures.covers(due) {
			a.figures.arrivals = append(a.figures.arrivals, now.Sub(due))
		}
	case b.N <= last.n && a.told[channel] && position <= last.position:
	case b.N <= last.n:
		a.faultLocked("%s: %d of %s (at %d) after %d (at %d): out of order, or twice", a.name, b.N, channel, position, last.n, last.position)
	default:
		a.faultLocked("%s: %d of %s (at %d) after %d (at %d): a gap", a.name, b.N, channel, position, last.n, last.position)
		a.seen[channel] = sight{b.N, position}
	}
}

// again notes that the follower comes back: it may be shown what it has seen.
func (a *account) again() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for channel := range a.seen {
		a.told[channel] = true
	}
}
