package edge

import (
	"context"
	"log/slog"
	"sync"
	"time"

	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/backoff"
	"github.com/comet-push/comet/internal/roster"
	"github.com/comet-push/comet/services/edge/internal/event"
	watched "github.com/comet-push/comet/services/edge/internal/roster"
)

const (
	// rosterLinger is how long a roster is followed that nobody watches any more.
	rosterLinger = 5 * time.Second
	// owedAgain is after how long those are told again to whom nothing could be.
	owedAgain = time.Second
	// warnAfter is how many failures in a row are worth a word.
	warnAfter = 5
)

// feed is one roster, and the sessions that watch it. All that these are told is
// told by its goroutine.
type feed struct {
	rosters *rosters
	name    string // under /presence
	channel string // of which it tells
	limit   int    // members that are listed
	wake    chan struct{}

	mu     sync.Mutex // leaf
	roster *watched.Roster[*client]
}

func (f *feed) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// do changes the roster.
func (f *feed) do(change func(*watched.Roster[*client])) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f.roster)
	f.signal()
}

func (f *feed) watchers() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.roster.Len()
}

// run tells who watches until nobody has for a while, or ctx ends.
func (f *feed) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	changes := make(chan roster.Change)
	var following sync.WaitGroup
	defer following.Wait()
	defer cancel()
	following.Go(func() { f.follow(ctx, changes) })

	var due, left time.Time // when news may be told; since when nobody watches
	timer := time.NewTimer(rosterLinger)
	defer timer.Stop()
	for {
		now := time.Now()
		if !now.Before(due) && f.tellNews() {
			due = now.Add(roster.Every)
		}
		f.tellOwed()
		wait, watched := f.rest(now, due)
		if watched {
			left = time.Time{}
		} else {
			if left.IsZero() {
				left = now
			}
			if wait = left.Add(rosterLinger).Sub(now); wait <= 0 && f.rosters.end(f) {
				return
			}
		}
		timer.Reset(max(wait, 0))
		select {
		case <-ctx.Done():
			return
		case c := <-changes:
			f.learn(c)
		case <-f.wake:
		case <-timer.C:
		}
	}
}

func (f *feed) learn(c roster.Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.roster.Learn(c)
}

// tellNews tells what is new, and reports whether something was.
func (f *feed) tellNews() bool {
	f.mu.Lock()
	data, to := f.roster.News()
	f.mu.Unlock()
	f.tell(data, to)
	return data != nil
}

// tellOwed tells all of it to whom it is owed.
func (f *feed) tellOwed() {
	f.mu.Lock()
	data, to := f.roster.Owed()
	f.mu.Unlock()
	f.tell(data, to)
}

func (f *feed) tell(data []byte, to []*watched.Watcher[*client]) {
	if data == nil {
		return
	}
	e := event.NewMessage(f.name, data, nil, "", false) // one for all
	for _, w := range to {
		told := w.Who.tell(e)
		f.mu.Lock()
		f.roster.Told(w, told)
		f.mu.Unlock()
	}
}

// rest is how long there is nothing to do, and whether somebody watches.
func (f *feed) rest(now, due time.Time) (wait time.Duration, watched bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	wait = time.Hour
	if f.roster.Pending() {
		wait = due.Sub(now)
	}
	if _, owed := f.roster.Owed(); owed != nil {
		wait = min(wait, owedAgain)
	}
	return wait, f.roster.Len() > 0
}

// follow hands on what presence says until ctx ends, and asks again when that
// ends.
func (f *feed) follow(ctx context.Context, changes chan<- roster.Change) {
	pace := backoff.Policy{Base: 100 * time.Millisecond, Max: 5 * time.Second}
	for failures := 1; ; failures++ {
		heard, err := f.listen(ctx, changes)
		if ctx.Err() != nil {
			return
		}
		f.rosters.breaks.Inc()
		if heard {
			failures = 1
		}
		if failures == warnAfter {
			f.rosters.logger.Warn("presence does not tell who is on a channel", slog.String("channel", f.channel), slog.Any("error", err))
		}
		backoff.Pause(ctx, pace.Delay(failures))
	}
}

// listen follows at one presence process, and reports whether that told anything.
func (f *feed) listen(ctx context.Context, changes chan<- roster.Change) (heard bool, err error) {
	presence, err := f.rosters.conns()
	if err != nil {
		return false, err
	}
	stream, err := presence.Follow(ctx, &edgev1.FollowRequest{Channel: f.channel, Limit: uint32(f.limit)})
	if err != nil {
		return false, err
	}
	for {
		resp, err := stream.Recv()
		if err != nil {
			return heard, err
		}
		heard = true
		select {
		case changes <- rosterChange(resp.GetChange()):
		case <-ctx.Done():
			return heard, ctx.Err()
		}
	}
}

func rosterChange(m *edgev1.RosterChange) roster.Change {
	c := roster.Change{Count: m.GetCount(), Listed: m.GetListed(), Whole: m.GetWhole()}
	for _, j := range m.GetJoined() {
		c.Joined = append(c.Joined, roster.Member{Session: j.GetSession(), User: j.GetUser(), Since: j.GetSince().AsTime()})
	}
	for _, session := range m.GetLeft() {
		c.Left = append(c.Left, roster.Member{Session: session})
	}
	return c
}
