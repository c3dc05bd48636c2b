package edge

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/comet-push/comet/bayeux"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/namespace"
	"github.com/comet-push/comet/internal/run"
	"github.com/comet-push/comet/services/edge/internal/channels"
	"github.com/comet-push/comet/services/edge/internal/deadline"
	"github.com/comet-push/comet/services/edge/internal/event"
	"github.com/comet-push/comet/services/edge/internal/hold"
	"github.com/comet-push/comet/services/edge/internal/plain"
	"github.com/comet-push/comet/services/edge/internal/web"
)

// plainDoor is the edge as plain channels see it.
type plainDoor struct {
	*Service // static, as are the next two

	reading    *plain.Config
	namespaces *namespace.Set
	readers    readers
	deadlines  [timerQueues]*deadline.Queue[*reader]
	counts     plainMetrics
}

func newPlainDoor(s *Service, deps Deps) *plainDoor {
	d := &plainDoor{Service: s, namespaces: deps.Namespaces}
	d.reading = plain.Config{
		Heartbeat:     s.cfg.Heartbeat,
		FrameMaxBytes: s.cfg.FrameMaxBytes,
		QueueMessages: s.cfg.QueueMessages,
		QueueBytes:    s.cfg.QueueBytes,
		Slow:          d.policy,
		Jitter:        rand.Int64N,
		Handed:        s.hub.Handed,
	}.Defaults()
	for i := range d.deadlines {
		d.deadlines[i] = deadline.New[*reader](deadlineSlack)
	}
	d.counts = newPlainMetrics(deps.Registerer, s.registry.readers.Load)
	return d
}

// handler returns the door.
func (d *plainDoor) handler(origins *web.Origins, holder hold.Holder, streamer hold.Streamer) *channels.Handler {
	return channels.New(channels.Config{
		Origins:     origins,
		PollTimeout: d.cfg.PollTimeout,
		ReadTimeout: d.cfg.ReadTimeout,
		JSONP:       d.cfg.JSONP,
		Holder:      holder,
		Streamer:    streamer,
		Number:      d.number,
		Refused:     func(reason string) { d.metrics.refused.WithLabelValues(reason).Inc() },
		Draining:    d.draining.Load,
	}, d)
}

func (d *plainDoor) components() (components []run.Component) {
	for _, q := range d.deadlines {
		components = append(components, run.Named("plain deadlines", run.Func(func(ctx context.Context) error {
			return q.Run(ctx, func(now time.Time, r *reader) { r.tick(now) })
		})))
	}
	return components
}

func (d *plainDoor) policy(channel string) plain.Policy {
	switch d.namespaces.Of(channel).Slow {
	case namespace.DropOldest:
		return plain.DropOldest
	case namespace.Conflate:
		return plain.Conflate
	}
	return plain.Recover
}

// MaySubscribe implements [channels.Edge]. Nobody can say yet who he is.
func (d *plainDoor) MaySubscribe(names []string) (public bool, p *web.Problem) {
	for _, name := range names {
		if _, roster := bayeux.RosterOf(name); roster {
			return false, channels.Denied(channelv1.ErrorReason_ERROR_REASON_SUBSCRIBE_DENIED, name,
				"who is on a channel is told to Bayeux clients only; backends ask presence")
		}
		if !d.namespaces.MaySubscribe(name, namespace.Anyone) {
			return false, channels.Denied(channelv1.ErrorReason_ERROR_REASON_SUBSCRIBE_DENIED, name,
				"not everybody may read this channel; let its namespace have subscribe: anyone")
		}
	}
	return true, nil
}

// MayPublish implements [channels.Edge].
func (d *plainDoor) MayPublish(channel string) (most int, p *web.Problem) {
	if _, roster := bayeux.RosterOf(channel); roster {
		return 0, channels.Denied(channelv1.ErrorReason_ERROR_REASON_PUBLISH_DENIED, channel,
			"nobody publishes to channels under /presence: they tell who is on others")
	}
	options := d.namespaces.Of(channel)
	if !options.Publish.Allows(namespace.Anyone) {
		return 0, channels.Denied(channelv1.ErrorReason_ERROR_REASON_PUBLISH_DENIED, channel,
			"not everybody may publish to this channel; let its namespace have publish: anyone")
	}
	return options.MaxMessageBytes, nil
}

// Poll implements [channels.Edge].
func (d *plainDoor) Poll(x *channels.Exchange, req *channels.Request) {
	r, p := d.admit(&plain.Request{
		Shape: shapeOf(req.Transport), Channels: req.Channels, Since: req.Since, Wait: req.Wait, Limit: req.Limit,
	})
	if p != nil {
		x.Refuse(p)
		return
	}
	d.answerBy(r, x, req.Transport != channels.Poll)
	r.start()
}

func shapeOf(t channels.Transport) plain.Shape {
	switch t {
	case channels.Poll:
		return plain.Poll
	case channels.LongPoll, channels.JSONP:
		return plain.LongPoll
	}
	return plain.Stream
}

// answerBy has a reader answer an exchange.
func (d *plainDoor) answerBy(r *reader, x *channels.Exchange, waits bool) {
	r.reply = &reply{Exchange: x, waits: waits}
	x.Own(r)
	d.keep(r)
}

// Stream implements [channels.Edge].
func (d *plainDoor) Stream(ctx context.Context, number uint64, req *channels.Request) (*hold.Stream, *web.Problem) {
	r, p := d.open(ctx, number, req)
	if p != nil {
		return nil, p
	}
	return r.stream, nil
}

// Socket implements [channels.Edge].
func (d *plainDoor) Socket(
	ctx context.Context, number uint64, req *channels.Request,
) (*hold.Stream, hold.Receiver, *web.Problem) {
	r, p := d.open(ctx, number, req)
	if p != nil {
		return nil, nil, p
	}
	return r.stream, r, nil
}

// open starts the reader of a stream, and waits until it is known how that
// begins.
func (d *plainDoor) open(ctx context.Context, number uint64, req *channels.Request) (*reader, *web.Problem) {
	r, p := d.admit(&plain.Request{
		Shape: plain.Stream, Channels: req.Channels, Since: req.Since,
		Encoding: req.Transport.Encoding(), Padding: req.Padding, Callback: req.Callback,
	})
	if p != nil {
		return nil, p
	}
	opened := make(chan *web.Problem, 1)
	r.stream, r.opening = hold.NewStream(number, r), opened
	d.keep(r)
	r.start()
	select {
	case p = <-opened:
	case <-ctx.Done():
		if errors.Is(context.Cause(ctx), run.ErrDraining) {
			r.drain(d.drainInterval())
		} else {
			r.lose()
		}
		p = <-opened
	}
	if p != nil {
		d.forget(r)
		return nil, p
	}
	return r, nil
}

// admit makes the reader of a request, which is to be kept, or refuses it.
func (d *plainDoor) admit(req *plain.Request) (*reader, *web.Problem) {
	if d.draining.Load() {
		return nil, drains()
	}
	if after, ok := d.pace(req); !ok {
		p := web.NewProblem(http.StatusTooManyRequests, channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED,
			"more clients come at a time than this server lets in; come again after the time it says")
		p.After = after
		return nil, p
	}
	if !d.registry.take(&d.registry.readers) {
		return nil, web.NewProblem(http.StatusTooManyRequests, channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED,
			"this server serves as many clients as it may; try again later")
	}
	r := &reader{door: d, plain: plain.New(d.reading, *req, time.Now())}
	r.timer.Value = r
	return r, nil
}

// pace reports whether a reader may begin now, or when to come again. Polls come
// and go as they like: they are requests like others.
func (d *plainDoor) pace(req *plain.Request) (after time.Duration, ok bool) {
	switch resumes := req.Since.At != nil; {
	case req.Shape == plain.Poll, req.Shape == plain.LongPoll && resumes:
		return 0, true
	case resumes:
		return d.resumers.Admit(time.Now())
	}
	return d.newcomers.Admit(time.Now())
}

// keep makes a reader known; forget is due once nothing more comes of it.
func (d *plainDoor) keep(r *reader) {
	d.unanswered.add()
	d.readers.add(r)
	if d.draining.Load() {
		r.drain(d.drainInterval()) // the drain may have missed it
	}
}

func (d *plainDoor) forget(r *reader) {
	d.readers.remove(r)
	d.registry.readers.Add(-1)
	d.unanswered.done()
}

func (d *plainDoor) timers(r *reader) *deadline.Queue[*reader] {
	return d.deadlines[r.number()%timerQueues]
}

// sampled is how many streams there are to each whose deliveries are timed.
const sampled = 64

// delivered books an event that was given to a stream. Its time is that of one
// stream in many, and without the way to the socket.
func (d *plainDoor) delivered(r *reader, now time.Time, e *event.Event) {
	d.metrics.deliveries.Inc()
	if r.number()%sampled == 0 && !e.Appended().IsZero() {
		d.metrics.socket.Observe(max(now.Sub(e.Appended()), 0).Seconds()) // clocks may differ
	}
}

// drains is the problem of a server that stops.
func drains() *web.Problem {
	return web.NewProblem(http.StatusServiceUnavailable, channelv1.ErrorReason_ERROR_REASON_DRAINING,
		"this server stops; send the request again, to another one")
}

// refusalOf is the problem of a reader that is not served.
func refusalOf(out *plain.Effects) *web.Problem {
	if out.Refused == nil || out.Refused.Err == nil {
		if out.Ended == plain.Draining {
			return drains()
		}
		return unavailable("the channels cannot be read now; try again")
	}
	refused := out.Refused
	p := unavailable("the history of the channel cannot be reached now; try again")
	switch refused.Err.Code {
	case bayeux.SubscribeDenied("").Code:
		p = channels.Denied(channelv1.ErrorReason_ERROR_REASON_SUBSCRIBE_DENIED, "", "the channel cannot be read")
	case bayeux.LimitExceeded("").Code:
		p = web.NewProblem(http.StatusTooManyRequests, channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED,
			"this server reads as much history as it may; try again later")
	}
	p.Channel = refused.Channel
	return p
}

func unavailable(detail string) *web.Problem {
	return web.NewProblem(http.StatusServiceUnavailable, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE, detail)
}
