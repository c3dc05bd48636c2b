package edge

import (
	"maps"
	"slices"
	"sync"
	"time"

	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/home"
)

const (
	// departedFor is how long a session that left can be taken again.
	departedFor = 30 * time.Second
	// departedMost bounds the sessions that are kept for that.
	departedMost = 1 << 16
)

// departures keeps sessions that left for other edges, in case these ask again,
// and knows where they went.
type departures struct {
	mu    sync.Mutex // leaf
	by    map[string]*departure
	order []*departure // by when they left
}

// departure is a session that left.
type departure struct {
	session  string // its public id
	seat     home.Seat
	snapshot *edgev1.SessionSnapshot
	record   *edgev1.SessionState // what presence is to keep of it until it has heard of the next home
	until    time.Time
}

func (d *departures) add(x *departure) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.by == nil {
		d.by = map[string]*departure{}
	}
	d.by[x.session] = x
	d.order = append(d.order, x)
	for len(d.order) > departedMost {
		d.dropFirstLocked()
	}
}

// take hands over a session that left, for whoever claimed it last; nil if it
// is not known. An error is [home.ErrStale].
func (d *departures) take(session, by string, g home.Generation) (*edgev1.TakeResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.by[session]
	if x == nil {
		return nil, nil //nolint:nilnil // nothing is known, which is no error
	}
	exact, err := x.seat.Take(by, g, x.until)
	if err != nil {
		return nil, err
	}
	return &edgev1.TakeResponse{Snapshot: x.snapshot, Exact: exact}, nil
}

// home says where a session went, or nothing.
func (d *departures) home(session string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.by[session]
	if x == nil {
		return ""
	}
	edge, _ := x.seat.Home()
	return edge
}

// record returns what presence is to keep of a session that left; nil if it is
// none.
func (d *departures) record(session string) *edgev1.SessionState {
	d.mu.Lock()
	defer d.mu.Unlock()
	if x := d.by[session]; x != nil {
		return x.record
	}
	return nil
}

// sessions are those that left.
func (d *departures) sessions() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Keys(d.by))
}

// sweep forgets those that left long ago, and returns them.
func (d *departures) sweep(now time.Time) (forgotten []*departure) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.order) > 0 && !now.Before(d.order[0].until) {
		forgotten = append(forgotten, d.order[0])
		d.dropFirstLocked()
	}
	return forgotten
}

func (d *departures) dropFirstLocked() {
	first := d.order[0]
	d.order[0] = nil
	d.order = d.order[1:]
	if d.by[first.session] == first {
		delete(d.by, first.session)
	}
}
