package relay

import (
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/services/edge/internal/hold"
)

// Home takes what fronts relay. Its methods must not block.
type Home interface {
	// Number returns the number of another exchange.
	Number() uint64
	// Relayed takes a request of a client behind a front, as if its exchange were
	// held here; or says why it does not.
	Relayed(front string, e *hold.Exchange, r *edgev1.RelayedRequest) Reception
	// Hurry asks for an early answer to an exchange: the front drains.
	Hurry(e *hold.Exchange)
	// Vanished says, of an exchange that was lost, that its front was: the client
	// may not know yet.
	Vanished(e *hold.Exchange)
}

// Reception is what becomes of a relayed request.
type Reception struct {
	// Elsewhere is given if the session is not here: the exchange was left alone.
	Elsewhere *edgev1.NotHome
	// Settled tells the front, with the answer, that it may claim the session.
	Settled bool
}

// line is a stream from a front, at the home.
type line struct {
	front string // as name@id
	home  Home

	mu      sync.Mutex              // leaf
	guests  map[uint64]*guest       // by the front's numbers; nil once the stream has ended
	out     []*edgev1.RelayResponse // to be sent, before what is answered
	ready   []uint64                // of guests that have answers to be sent
	changed chan struct{}           // of one: there is something to send
}

// guest is an exchange that a front holds.
type guest struct {
	exchange *hold.Exchange
	settled  bool // set before it is ready
}

// Serve serves a front's stream until it ends.
func Serve(stream grpc.BidiStreamingServer[edgev1.RelayRequest, edgev1.RelayResponse], home Home) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if first.GetFront() == "" {
		return rpc.Error(codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID,
			"the first message names no front")
	}
	l := &line{front: first.GetFront(), home: home, guests: map[uint64]*guest{}, changed: make(chan struct{}, 1)}
	defer l.end()
	received := rpc.Each(stream, l.take)
	for {
		select {
		case err := <-received:
			return err
		case <-l.changed:
			for _, r := range l.collect() {
				if err := stream.Send(r); err != nil {
					return err
				}
			}
		}
	}
}

func (l *line) take(r *edgev1.RelayRequest) {
	number := r.GetExchange()
	switch event := r.GetEvent().(type) {
	case *edgev1.RelayRequest_Request:
		l.receive(number, event.Request)
	case *edgev1.RelayRequest_Written:
		l.over(number, true)
	case *edgev1.RelayRequest_Lost:
		l.over(number, false)
	case *edgev1.RelayRequest_Beat:
		l.beat()
	case *edgev1.RelayRequest_Hurry:
		if g := l.find(number); g != nil {
			l.home.Hurry(g.exchange)
		}
	}
}

func (l *line) find(number uint64) *guest {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.guests[number]
}

func (l *line) receive(number uint64, r *edgev1.RelayedRequest) {
	g := &guest{exchange: hold.New(l.home.Number())}
	if !l.add(number, g) {
		return
	}
	reception := l.home.Relayed(l.front, g.exchange, r)
	if reception.Elsewhere != nil {
		l.refuse(number, reception.Elsewhere)
		return
	}
	g.settled = reception.Settled
	g.exchange.Remote(func() {
		l.mu.Lock()
		l.ready = append(l.ready, number)
		l.mu.Unlock()
		l.wake()
	})
}

// add notes a guest, unless the stream has ended or its number was used.
func (l *line) add(number uint64, g *guest) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.guests[number]; known || l.guests == nil {
		return false
	}
	l.guests[number] = g
	return true
}

func (l *line) refuse(number uint64, elsewhere *edgev1.NotHome) {
	l.mu.Lock()
	delete(l.guests, number)
	l.out = append(l.out, &edgev1.RelayResponse{
		Exchange: number, Outcome: &edgev1.RelayResponse_NotHome{NotHome: elsewhere},
	})
	l.mu.Unlock()
	l.wake()
}

func (l *line) beat() {
	l.mu.Lock()
	l.out = append(l.out, &edgev1.RelayResponse{Outcome: &edgev1.RelayResponse_Beat{Beat: true}})
	l.mu.Unlock()
	l.wake()
}

func (l *line) wake() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// over ends an exchange as the front says that it ended.
func (l *line) over(number uint64, written bool) {
	l.mu.Lock()
	g := l.guests[number]
	delete(l.guests, number)
	l.mu.Unlock()
	if g == nil {
		return
	}
	_, answered := g.exchange.Answered()
	g.exchange.Over(written && answered)
}

// collect returns what is to be sent.
func (l *line) collect() []*edgev1.RelayResponse {
	l.mu.Lock()
	out, ready := l.out, l.ready
	l.out, l.ready = nil, nil
	guests := make([]*guest, len(ready))
	for i, number := range ready {
		if g := l.guests[number]; g != nil {
			guests[i] = g
			if a, _ := g.exchange.Answered(); a.Left {
				delete(l.guests, number) // the front does not speak of it any more
			}
		}
	}
	l.mu.Unlock()
	for i, g := range guests {
		if g == nil {
			continue // lost meanwhile
		}
		a, _ := g.exchange.Answered()
		if a.Left {
			out = append(out, &edgev1.RelayResponse{
				Exchange: ready[i], Outcome: &edgev1.RelayResponse_NotHome{NotHome: &edgev1.NotHome{Begun: true}},
			})
			g.exchange.Over(false)
			continue
		}
		out = append(out, &edgev1.RelayResponse{
			Exchange: ready[i], Settled: g.settled,
			Outcome: &edgev1.RelayResponse_Answer{Answer: &edgev1.RelayedAnswer{Status: uint32(a.Status), Body: a.Body}},
		})
	}
	return out
}

// end loses what is not over.
func (l *line) end() {
	l.mu.Lock()
	guests := l.guests
	l.guests = nil
	l.mu.Unlock()
	for _, g := range guests {
		g.exchange.Over(false)
		l.home.Vanished(g.exchange)
	}
}
