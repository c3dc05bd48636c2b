package edge

import (
	"context"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/comet-push/comet/bayeux"
	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
)

const (
	readersAtOnce = 16    // reads of history at once
	mostReads     = 65536 // that wait
	longestPage   = 256   // entries read at once
)

// reads asks brokers for history that no ring has, a page at a time, when there
// is room. Who asks for what somebody waits for already gets the same answer, as
// long as that read has not begun: so none is older than what it was asked for.
type reads struct {
	reader Reader
	wake   chan struct{} // has room for one

	mu      sync.Mutex // leaf
	queue   []*read
	waiting map[pageKey]*read // those in queue
}

// page is a piece of the history of channels of one slot.
type page struct {
	slot     shard.Slot
	channels []string
	since    uint64
	earliest bool // whatever since is
	limit    int
	known    uint64 // a position that is committed
}

// pageKey is what pages have in common that are the same.
type pageKey struct {
	slot     shard.Slot
	channels string
	since    uint64
	earliest bool
	limit    int
}

// answer is what a read has found. Those who share it change nothing of it.
type answer struct {
	*brokerv1.ReadResponse

	events []*event.Event
	err    *bayeux.Error
}

// read is a page that somebody waits for.
type read struct {
	page

	key  pageKey
	then []func(answer)
}

func newReads() reads {
	return reads{wake: make(chan struct{}, 1), waiting: map[pageKey]*read{}}
}

func (p *page) key() pageKey {
	return pageKey{p.slot, strings.Join(p.channels, "\x00"), p.since, p.earliest, p.limit}
}

// ask has a page read, and answers then; it reports whether there was room.
func (r *reads) ask(p page, then func(answer)) bool {
	p.limit = min(p.limit, longestPage)
	key := p.key()
	r.mu.Lock()
	defer r.mu.Unlock()
	if same := r.waiting[key]; same != nil {
		same.known = max(same.known, p.known)
		same.then = append(same.then, then)
		return true
	}
	if len(r.queue) == mostReads {
		return false
	}
	one := &read{page: p, key: key, then: []func(answer){then}}
	r.queue, r.waiting[key] = append(r.queue, one), one
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return true
}

// next takes the read that waits longest, nil if none does.
func (r *reads) next() *read {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) == 0 {
		r.queue = nil
		return nil
	}
	one := r.queue[0]
	r.queue[0], r.queue = nil, r.queue[1:]
	delete(r.waiting, one.key)
	return one
}

// Run reads until ctx ends. What is left then is of sessions that have ended.
func (r *reads) Run(ctx context.Context) error {
	var group errgroup.Group
	room := make(chan struct{}, readersAtOnce)
	for {
		select {
		case room <- struct{}{}: // before anything leaves the queue: there it can still be shared
		case <-ctx.Done():
			return group.Wait()
		}
		one := r.next()
		for one == nil {
			select {
			case <-r.wake:
			case <-ctx.Done():
				return group.Wait()
			}
			one = r.next()
		}
		group.Go(func() error {
			defer func() { <-room }()
			found := r.read(ctx, &one.page)
			for _, then := range one.then {
				then(found)
			}
			return nil
		})
	}
}

func (r *reads) read(ctx context.Context, p *page) answer {
	slot := uint32(p.slot)
	request := &brokerv1.ReadRequest{Slot: &slot, Channels: p.channels, Limit: uint32(p.limit)}
	if !p.earliest {
		request.Since = &p.since
	}
	response, err := r.reader.ReadAtLeast(ctx, request, p.known)
	if err != nil {
		return answer{err: bayeux.Unavailable()}
	}
	found := answer{ReadResponse: response}
	for _, e := range response.GetEntries() {
		found.events = append(found.events, newEvent(p.slot, e))
	}
	return found
}

func newEvent(slot shard.Slot, e *brokerv1.Entry) *event.Event {
	var appended time.Time
	if ms := e.GetTimeMs(); ms > 0 {
		appended = time.UnixMilli(ms)
	}
	at := shard.Position{Slot: slot, Offset: e.GetOffset()}
	return event.New(e.GetChannel(), at, e.GetData(), e.GetExt(), e.GetMembers(), appended)
}
