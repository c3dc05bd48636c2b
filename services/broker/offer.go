package broker

import (
	"errors"
	"slices"
	"time"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/replica"
	"github.com/comet-push/comet/services/broker/internal/slot"
)

const (
	// offerPatience is how long an offer waits for a row that its sender has
	// seen, or for the end of a hand-over.
	offerPatience = time.Second
	// parkedBytes bounds what waits so in one slot. Beyond it senders are told
	// that the slot moved: they try again.
	parkedBytes = 1 << 20
	// offerOverhead is what an offer costs beside its bytes, roughly.
	offerOverhead = 256
)

// errWait: it is not the time to decide about an offer.
var errWait = errors.New("wait")

// offer is a publication that some stream is owed an answer for. It takes no
// goroutine while it waits.
type offer struct {
	to      *answers[*brokerv1.Answer]
	req     *brokerv1.Offer
	arrived time.Time

	// Once appended.
	offset    uint64
	duplicate bool
}

func (x *offer) size() int {
	return offerOverhead + len(x.req.GetData()) + len(x.req.GetExt()) + len(x.req.GetMembers())
}

// offer appends a publication, or parks it behind those that wait already, or
// refuses it. Its stream gets the answer.
func (s *places) offer(x offer) {
	p := &s.all[shard.Of(x.req.GetChannel())]
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if len(p.parked) == 0 && s.decide(p, x, now) {
		return
	}
	if p.parkedFor += x.size(); p.parkedFor > parkedBytes && len(p.parked) > 0 {
		p.parkedFor -= x.size()
		s.refuse(p, x, replica.ErrMoved)
		return
	}
	p.parked = append(p.parked, x)
}

// decideParked decides about offers that were parked, in their order.
func (s *places) decideParked(p *place, now time.Time) {
	for len(p.parked) > 0 && s.decide(p, p.parked[0], now) {
		p.parkedFor -= p.parked[0].size()
		p.parked[0] = offer{}
		if p.parked = p.parked[1:]; len(p.parked) == 0 {
			p.parked = nil
		}
	}
}

// decide appends or refuses an offer; false if it has to wait.
func (s *places) decide(p *place, x offer, now time.Time) bool {
	switch err := p.admit(&x, now); {
	case errors.Is(err, errWait):
		return false
	case err != nil:
		s.refuse(p, x, err)
	default:
		s.append(p, x, now)
	}
	return true
}

// admit says what keeps an offer from being appended.
func (p *place) admit(x *offer, now time.Time) error {
	wait := now.Sub(x.arrived) < offerPatience
	version := x.req.GetVersion()
	if version > max(p.row.Version, p.unheard) {
		if wait {
			return errWait
		}
		p.unheard = version
	}
	if version != 0 && version < p.began {
		// Its sender may have been refused other messages since. It is told, so
		// that it sends them first.
		return replica.ErrMoved
	}
	err := p.replica.Admit(now)
	if errors.Is(err, replica.ErrMoving) {
		if wait {
			return errWait
		}
		return replica.ErrMoved
	}
	return err
}

// append appends an offer, and answers it at once if it is committed at once.
func (s *places) append(p *place, x offer, now time.Time) {
	result, err := p.log.Append(slot.Publication{
		Channel: x.req.GetChannel(), Data: x.req.GetData(), Ext: x.req.GetExt(), Members: x.req.GetMembers(),
		Session: x.req.GetSession(), ID: x.req.GetId(), Key: x.req.GetIdempotencyKey(), Fresh: x.req.GetFresh(),
	}, now)
	if err != nil {
		s.refuse(p, x, err)
		return
	}
	x.offset, x.duplicate = result.Offset, result.Duplicate
	p.waiting = append(p.waiting, x)
	if result.Duplicate {
		s.answer(p)
		return
	}
	p.replica.Appended(now, &p.effects)
	s.carryOut(p)
}

// answer answers the offers that are committed.
func (s *places) answer(p *place) {
	committed := p.log.Committed()
	answered := 0
	for i := range p.waiting {
		x := &p.waiting[i]
		if x.offset > committed {
			break
		}
		x.to.put(&brokerv1.Answer{
			RequestId: x.req.GetRequestId(), Offset: x.offset, Duplicate: x.duplicate,
		}, 0)
		if !x.duplicate {
			s.metrics.published(x.arrived)
		}
		answered++
	}
	if answered == len(p.waiting) {
		clear(p.waiting)
		p.waiting = p.waiting[:0]
		return
	}
	clear(p.waiting[:answered])
	p.waiting = p.waiting[answered:]
}

// refuseCommitted refuses the offers that are committed, but by too few.
func (s *places) refuseCommitted(p *place) {
	committed := p.log.Committed()
	p.waiting = slices.DeleteFunc(p.waiting, func(x offer) bool {
		if x.offset > committed {
			return false
		}
		s.refuse(p, x, replica.ErrFew)
		return true
	})
}

// refuse tells a stream why an offer was not, or may not have been, accepted.
func (s *places) refuse(p *place, x offer, err error) {
	reason := reasonOf(err)
	s.metrics.refuseReason(reason)
	x.to.put(&brokerv1.Answer{
		RequestId: x.req.GetRequestId(), Refused: reason, Detail: err.Error(), Version: p.row.Version,
	}, 0)
}

// reasonOf is the reason callers are given for a slot's refusal.
func reasonOf(err error) channelv1.ErrorReason {
	for _, known := range []struct {
		err    error
		reason channelv1.ErrorReason
	}{
		{replica.ErrFew, channelv1.ErrorReason_ERROR_REASON_MOVED},
		{replica.ErrMoved, channelv1.ErrorReason_ERROR_REASON_MOVED},
		{replica.ErrUnderReplicated, channelv1.ErrorReason_ERROR_REASON_UNDER_REPLICATED},
		{replica.ErrIsolated, channelv1.ErrorReason_ERROR_REASON_ISOLATED},
		{slot.ErrKeyReused, channelv1.ErrorReason_ERROR_REASON_KEY_REUSED},
		{slot.ErrBusy, channelv1.ErrorReason_ERROR_REASON_BUSY},
		{slot.ErrTooLarge, channelv1.ErrorReason_ERROR_REASON_MESSAGE_TOO_LARGE},
	} {
		if errors.Is(err, known.err) {
			return known.reason
		}
	}
	return channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE
}
