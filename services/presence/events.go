package presence

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/backoff"
	"github.com/comet-push/comet/internal/home"
	"github.com/comet-push/comet/internal/namespace"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/internal/upstream"
	"github.com/comet-push/comet/services/presence/internal/holder"
	"github.com/comet-push/comet/services/presence/internal/outbox"
)

const (
	// keepEvents is how long an event waits for brokers to take it, or for proof
	// that the other holder has published it.
	keepEvents = time.Hour
	// eventsInFlight is how many events of one channel are being published.
	eventsInFlight = 64
	// markEvery is how often a channel has an entry at least, see outbox.Mark.
	markEvery = 20 * time.Minute
	// eventPause is the longest pause before events are published again.
	eventPause = 5 * time.Second
)

// events tells backends what becomes of sessions: it publishes the ends and
// leaves of sessions whose shards this process is the first holder of, each at
// least once, serves those who watch, and calls the webhook.
type events struct {
	deps      Deps
	metrics   *eventMetrics
	publisher *upstream.Publisher
	reader    *upstream.Reader
	log       *eventLog
	webhook   *webhooks // nil: none
	watches   watchCount
	wake      chan struct{} // holds a token when there may be something to publish

	mu    sync.Mutex // leaf
	box   *outbox.Box
	first []shard.PresenceShard
	news  chan struct{} // closed when first changes
	lanes [outbox.Channels]struct {
		failures int
		until    time.Time // nothing is published before
		marked   time.Time // a mark was published
	}
}

func newEvents(cfg Config, deps Deps) (*events, error) {
	e := &events{
		deps: deps, wake: make(chan struct{}, 1), news: make(chan struct{}),
		box: outbox.New(outbox.Config{Keep: keepEvents, Most: cfg.MaxEvents, Flying: eventsInFlight}),
		publisher: upstream.NewPublisher(upstream.PublisherConfig{
			Node: deps.Node.Member(), Directory: deps.Directory, Conns: deps.Conns, Registerer: deps.Registerer, Logger: deps.Logger,
		}),
		reader: upstream.NewReader(upstream.ReaderConfig{Directory: deps.Directory, Conns: deps.Conns}),
	}
	e.log = newEventLog(cfg, deps, e.reader, e.seen)
	e.metrics = newEventMetrics(deps.Registerer, e)
	var err error
	e.webhook, err = newWebhooks(cfg.Webhook, e)
	return e, err
}

// Run publishes until ctx ends.
func (e *events) Run(ctx context.Context) error {
	// What reaches brokers ends last, so that the webhook's positions are saved.
	reach, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	var links, parts sync.WaitGroup
	defer links.Wait()
	defer func() { stop(context.Cause(ctx)) }()
	defer parts.Wait()
	for _, run := range []func(context.Context) error{e.publisher.Run, e.reader.Run, e.log.follower.Run} {
		links.Go(func() { _ = run(reach) }) // none of them fails
	}
	for c := range outbox.Channel(outbox.Channels) {
		parts.Go(func() { e.prove(ctx, c) })
		if e.webhook != nil {
			parts.Go(func() { e.webhook.serve(ctx, c) })
		}
	}
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	begun := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.wake:
			e.publish(time.Now())
		case now := <-tick.C:
			e.tick(now)
			e.publish(now)
			e.mark(now, begun)
		}
	}
}

// ended, left and again are what the holder tells.
func (e *events) ended(x holder.Ended) {
	e.put(outbox.NewDisconnected(x.Session, x.User, nameOf(x.Edge), x.Generation, x.Reason, x.Channels, x.At), time.Time{}, x.At)
}

func (e *events) left(x holder.Left) {
	if e.deps.Namespaces != nil && e.deps.Namespaces.Of(x.Channel).Presence == "off" {
		return
	}
	e.put(outbox.NewLeft(x.Session, x.User, nameOf(x.Edge), x.Generation, x.Channel, x.At), x.Joined, x.At)
}

func (e *events) again(session string, g home.Generation) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.box.Withdraw(session, g)
}

func (e *events) put(x *outbox.Event, joined, now time.Time) {
	e.mu.Lock()
	lost := e.box.Put(x, joined, now)
	e.mu.Unlock()
	e.giveUp(lost)
	e.ring()
}

// seen takes what was read in a channel.
func (e *events) seen(x *outbox.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.box.Seen(x, time.Now())
}

func (e *events) tick(now time.Time) {
	e.mu.Lock()
	lost := e.box.Tick(now)
	e.mu.Unlock()
	e.giveUp(lost)
}

func (e *events) giveUp(lost int) {
	if lost > 0 {
		e.metrics.lost.Add(float64(lost))
		e.deps.Logger.Error("events of sessions are lost: brokers did not take them in time, or too many waited", slog.Int("events", lost))
	}
}

func (e *events) ring() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// setFirst says of which shards this process is the first holder.
func (e *events) setFirst(first []shard.PresenceShard) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.first = first
	e.box.SetFirst(first)
	close(e.news)
	e.news = make(chan struct{})
}

// prove lets events of a channel be published once what it held when this
// process became a first holder was read, again and again until ctx ends.
func (e *events) prove(ctx context.Context, c outbox.Channel) {
	for ctx.Err() == nil {
		e.mu.Lock()
		round, waits := e.box.Unproven(c)
		news := e.news
		e.mu.Unlock()
		if !waits {
			select {
			case <-ctx.Done():
			case <-news:
			}
			continue
		}
		if err := e.log.catchUp(ctx, c); err != nil {
			backoff.Pause(ctx, time.Second)
			continue
		}
		e.mu.Lock()
		e.box.Proven(c, round)
		e.mu.Unlock()
		e.ring()
	}
}

// publish publishes what there is to publish.
func (e *events) publish(now time.Time) {
	for c := range outbox.Channel(outbox.Channels) {
		for _, x := range e.take(c, now) {
			e.publisher.Publish(upstream.Publication{
				Channel: c.Name(namespace.PresenceEvents), Data: x.Text(), Key: x.ID,
			}, func(_ upstream.Ack, err error) { e.published(c, x, err) })
		}
	}
}

// mark puts marks into channels that have had no entry for a while since this
// process runs, if it is the first holder of the shard of their number.
func (e *events) mark(now, begun time.Time) {
	for c := range outbox.Channel(outbox.Channels) {
		mine, _ := e.isFirst(shard.PresenceShard(c))
		if mine && e.quiet(c, now, begun) {
			e.publisher.Publish(upstream.Publication{
				Channel: c.Name(namespace.PresenceEvents), Data: []byte(outbox.Mark),
			}, func(upstream.Ack, error) {}) // else the next one will do
		}
	}
}

// quiet reports whether it is time to mark a channel, and notes that it is done.
func (e *events) quiet(c outbox.Channel, now, begun time.Time) bool {
	last := e.log.head(c).at
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, t := range []time.Time{last, begun, e.lanes[c].marked} {
		if now.Sub(t) < markEvery {
			return false
		}
	}
	e.lanes[c].marked = now
	return true
}

func (e *events) take(c outbox.Channel, now time.Time) []*outbox.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	if now.Before(e.lanes[c].until) {
		return nil
	}
	return e.box.Take(c)
}

// published takes the answer to a publish. KEY_REUSED: the other holder has
// published it, in its own words.
func (e *events) published(c outbox.Channel, x *outbox.Event, err error) {
	switch {
	case err == nil:
		e.metrics.published(x)
	case rpc.Reason(err) == channelv1.ErrorReason_ERROR_REASON_KEY_REUSED:
	case status.Code(err) == codes.InvalidArgument:
		e.metrics.lost.Inc()
		e.deps.Logger.Error("brokers refuse an event of a session", slog.String("event", x.ID), slog.Any("err", err))
	default:
		e.failed(c, x)
		return
	}
	e.mu.Lock()
	e.box.Done(x)
	e.lanes[c].failures = 0
	e.mu.Unlock()
	e.ring()
}

// failed keeps an event, to be published again after a pause.
func (e *events) failed(c outbox.Channel, x *outbox.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.box.Failed(x)
	l := &e.lanes[c]
	l.failures++
	l.until = time.Now().Add(backoff.Policy{Base: 100 * time.Millisecond, Max: eventPause}.Delay(l.failures))
}

// isFirst reports whether this process is the first holder of a shard; news is
// closed when that may change.
func (e *events) isFirst(s shard.PresenceShard) (is bool, news <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range e.first {
		is = is || n == s
	}
	return is, e.news
}

// waiting is how many events are kept that are not known to be published.
func (e *events) waiting() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.box.Len()
}
