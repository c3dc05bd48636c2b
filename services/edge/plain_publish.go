package edge

import (
	"net/http"
	"time"

	"google.golang.org/grpc/status"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/internal/upstream"
	"github.com/comet-push/comet/services/edge/internal/channels"
	"github.com/comet-push/comet/services/edge/internal/frame"
	"github.com/comet-push/comet/services/edge/internal/hold"
	"github.com/comet-push/comet/services/edge/internal/plain"
	"github.com/comet-push/comet/services/edge/internal/web"
)

// Publish implements [channels.Edge].
func (d *plainDoor) Publish(x *channels.Exchange, pub channels.Publication) {
	if pub.Read != nil {
		d.publishAndRead(x, pub)
		return
	}
	d.unanswered.add()
	x.Own(poster{d})
	d.commit(pub, func(ack upstream.Ack, p *web.Problem) {
		if p != nil {
			x.Refuse(p)
			return
		}
		x.Published(ack.Position, ack.Duplicate, false)
	})
}

// publishAndRead publishes for a client that also reads. There has to be room
// for the reader before anything is published.
func (d *plainDoor) publishAndRead(x *channels.Exchange, pub channels.Publication) {
	request := &plain.Request{
		Shape: plain.Poll, Channels: pub.Read.Channels, Since: pub.Read.Since, Limit: pub.Read.Limit,
	}
	r, p := d.admit(request)
	if p != nil {
		x.Refuse(p)
		return
	}
	d.answerBy(r, x, false)
	d.commit(pub, func(ack upstream.Ack, p *web.Problem) {
		if p != nil {
			x.Refuse(p)
			return
		}
		x.Published(ack.Position, ack.Duplicate, true)
		request.Published = shard.Position{Slot: shard.Of(pub.Channel), Offset: ack.Position}
		r.startWith(request)
	})
}

// startWith starts a reader whose request was not complete.
func (r *reader) startWith(req *plain.Request) {
	r.mu.Lock()
	if r.plain.Ended() == "" {
		r.plain = plain.New(r.door.reading, *req, time.Now())
	}
	r.mu.Unlock()
	r.start()
}

// commit publishes. done is called once.
func (d *plainDoor) commit(pub channels.Publication, done func(upstream.Ack, *web.Problem)) {
	d.publisher.Publish(upstream.Publication{Channel: pub.Channel, Data: pub.Data, Key: pub.Key},
		func(ack upstream.Ack, err error) {
			if err != nil {
				done(ack, publishProblem(pub.Channel, err))
				return
			}
			d.metrics.publishes.Inc()
			done(ack, nil)
		})
}

// poster is the owner of exchanges of publishers.
type poster struct{ *plainDoor }

// Written implements [hold.Owner].
func (p poster) Written(uint64) { p.unanswered.done() }

// Lost implements [hold.Owner].
func (p poster) Lost(uint64) { p.unanswered.done() }

// Drain implements [hold.Owner]: the answer comes soon anyway.
func (p poster) Drain(uint64) {}

// mostAnswers is how many bytes may wait on a WebSocket: messages are kept by
// the reader from [hold.Full] on, so what is above that are answers to a client
// that publishes and does not read.
const mostAnswers = 4 * hold.Full

// Pong implements [hold.Receiver]: what has arrived is known from the client's
// position.
func (r *reader) Pong(uint64, []byte) {}

// Message implements [hold.Receiver]: the client publishes.
func (r *reader) Message(_ uint64, text []byte) {
	d := r.door
	if r.isOver() {
		return // the client could not be told
	}
	m, p := channels.ParseMessage(text)
	if p == nil {
		p = d.checkSize(&m.Publication)
	}
	if p != nil {
		r.answer(channels.AppendRefused(nil, m.ID, p), p)
		return
	}
	if int(r.publishes.Add(1)) > d.cfg.Publishes {
		r.publishes.Add(-1)
		p := web.NewProblem(http.StatusTooManyRequests, channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED,
			"too many messages wait to be published; wait for their answers")
		r.answer(channels.AppendRefused(nil, m.ID, p), p)
		return
	}
	d.commit(m.Publication, func(ack upstream.Ack, p *web.Problem) {
		r.publishes.Add(-1)
		if p != nil {
			r.answer(channels.AppendRefused(nil, m.ID, p), p)
			return
		}
		r.answer(channels.AppendPublished(nil, m.ID, ack.Position, ack.Duplicate), nil)
	})
}

func (r *reader) isOver() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.plain.Ended() != ""
}

func (d *plainDoor) checkSize(pub *channels.Publication) *web.Problem {
	most, p := d.MayPublish(pub.Channel)
	if p == nil && len(pub.Data) > most {
		p = web.TooLarge(int64(most))
	}
	return p
}

// answer sends the answer to a message that the client sent.
func (r *reader) answer(object []byte, p *web.Problem) {
	if p != nil {
		r.door.metrics.refused.WithLabelValues(p.Reason).Inc()
	}
	var out plain.Effects
	now := time.Now()
	r.mu.Lock()
	if r.plain.Ended() == "" {
		waiting := r.stream.Send(frame.Text(object))
		if waiting >= hold.Full {
			r.plain.Blocked()
		}
		if waiting > mostAnswers {
			r.plain.End(now, plain.Slow, 0, &out)
		}
	}
	r.settle(now, &out)
}

// publishProblem is why a message was not published.
func publishProblem(channel string, err error) *web.Problem {
	reason, code := rpc.Reason(err), http.StatusServiceUnavailable
	switch reason {
	case channelv1.ErrorReason_ERROR_REASON_BUSY, channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED:
		reason, code = channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED, http.StatusTooManyRequests
	case channelv1.ErrorReason_ERROR_REASON_KEY_REUSED:
		code = http.StatusConflict
	case channelv1.ErrorReason_ERROR_REASON_PUBLISH_DENIED:
		code = http.StatusForbidden
	case channelv1.ErrorReason_ERROR_REASON_MESSAGE_TOO_LARGE:
		code = http.StatusRequestEntityTooLarge
	case channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID, channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID,
		channelv1.ErrorReason_ERROR_REASON_DATA_INVALID:
		code = http.StatusBadRequest
	case channelv1.ErrorReason_ERROR_REASON_DRAINING:
	default:
		reason = channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE
	}
	p := web.NewProblem(code, reason, status.Convert(err).Message())
	p.Channel = channel
	return p
}
