package edge

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/backoff"
	"github.com/comet-push/comet/internal/home"
	"github.com/comet-push/comet/internal/records"
	"github.com/comet-push/comet/services/edge/internal/session"
)

// takePatience is how long a home may take to hand a session over; then its
// record has to do.
const takePatience = 2 * time.Second

// errBusy says that it cannot be found out now where a session is.
var errBusy = errors.New("presence cannot say where the session is")

// passage carries out what a [home.Move] wants.
type passage struct {
	home.Move

	arrivals *arrivals
	id       string // the clientId
	settle   bool   // it is to come here
	why      error  // presence cannot say
	claimed  *edgev1.ClaimResponse
	taken    *edgev1.TakeResponse
}

// newborn is how long a session that is to come here may be unheard of at presence
// though the edge is there that its clientId hints at: it may have begun just now.
const newborn = time.Second

// run finds out where the session is, or brings it here.
func (p *passage) run(ctx context.Context) (w whereabouts, err error) {
	s := p.arrivals.service
	for begun := time.Now(); ; {
		p.begin()
		w, err = p.once(ctx)
		if err != nil || !p.settle || !p.Unheard() {
			break
		}
		if time.Since(begun) > newborn {
			return w, records.ErrUnknown
		}
		backoff.Pause(ctx, newborn/20)
	}
	if err == nil && w.client == nil {
		s.homes.note(p.id, w.home.Member())
	}
	return w, err
}

// begin begins anew. A request was relayed to where its clientId hints at.
func (p *passage) begin() {
	s := p.arrivals.service
	self := s.node.Member()
	if !p.settle {
		p.Move = home.Find(self, "", s.edges.usable)
		return
	}
	hint := ""
	if hinted := s.edges.hinted(p.id); len(hinted) > 0 {
		hint = hinted[0].Member()
	}
	p.Move = home.Adopt(self, hint)
}

// once carries out one Move.
func (p *passage) once(ctx context.Context) (w whereabouts, err error) {
	s := p.arrivals.service
	for ctx.Err() == nil {
		if c := s.registry.find(p.id); c != nil {
			return whereabouts{client: c}, nil
		}
		if s.endings.has(publicID(p.id)) {
			return w, records.ErrUnknown
		}
		switch step := p.Step(); step.Do {
		case home.Relay:
			w.home, _ = s.edges.member(step.Edge)
			return w, nil
		case home.Locate:
			p.locate(ctx)
		case home.ClaimIt:
			err = p.claim(ctx, step.Generation)
		case home.Take:
			err = p.take(ctx, step.Edge)
		case home.Restore, home.RestoreRecord:
			w.client, err = s.install(p.id, p.claimed, p.taken, step)
			return w, err
		case home.Refuse:
			return w, records.ErrUnknown
		default:
			return w, cmp.Or(p.why, errBusy)
		}
		if err != nil {
			return w, err
		}
	}
	return w, cmp.Or(p.why, ctx.Err())
}

func (p *passage) locate(ctx context.Context) {
	found, err := p.arrivals.records.Locate(ctx, publicID(p.id))
	switch {
	case errors.Is(err, records.ErrUnknown):
		p.Unknown(p.arrivals.service.edges.usable)
	case err != nil:
		p.why = err
		p.Failed()
	case found.GetHome() == "":
		p.Over()
	default:
		p.Located(found.GetHome(), generationOf(found.GetGeneration()), found.GetLost(), p.arrivals.service.edges.usable)
	}
}

func (p *passage) claim(ctx context.Context, expected home.Generation) error {
	s := p.arrivals.service
	if err := s.resume(ctx); err != nil {
		return err
	}
	claimed, err := p.arrivals.records.Claim(ctx, publicID(p.id), s.node.Member(), generationProto(expected))
	switch {
	case errors.Is(err, records.ErrMoved):
		p.Stale()
	case errors.Is(err, records.ErrUnknown):
		p.Unknown(p.arrivals.service.edges.usable)
	case err != nil:
		p.why = err
		p.Failed()
	default:
		p.claimed = claimed
		p.Claimed(generationOf(claimed.GetGeneration()), claimed.GetPrevious())
	}
	return nil
}

// take asks the home that the session had to hand it over, for a while if it does
// not answer.
func (p *passage) take(ctx context.Context, from string) error {
	s := p.arrivals.service
	n, announced := s.edges.member(from)
	if !announced {
		p.Unreachable()
		return nil
	}
	conn, err := s.conns.Conn(n.Addr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, takePatience)
	defer cancel()
	const pause = 50 * time.Millisecond
	for {
		p.taken, err = edgev1.NewEdgeServiceClient(conn).Take(ctx, &edgev1.TakeRequest{
			Session: publicID(p.id), Generation: p.claimed.GetGeneration(), Edge: s.node.Member(),
		})
		switch code := status.Code(err); {
		case err == nil:
			p.Took(p.taken.GetExact())
			return nil
		case code == codes.NotFound:
			p.Untaken()
			return nil
		case code == codes.Aborted:
			p.Stale()
			return nil
		case code == codes.FailedPrecondition: // it ended there before presence heard of it
			s.endings.add(publicID(p.id), time.Now())
			s.reports.Gone(publicID(p.id), &edgev1.SessionGone{
				Reason: string(session.Disconnected), Generation: p.claimed.GetGeneration(),
			})
			p.Over()
			return nil
		case ctx.Err() != nil:
			s.logger.Warn("a session could not be taken over from its home; its record has to do",
				slog.String("session", publicID(p.id)), slog.String("home", n.Name), slog.Any("error", err))
			p.Unreachable()
			return nil
		}
		backoff.Pause(ctx, pause)
	}
}

func generationOf(g *edgev1.Generation) home.Generation {
	return home.Generation{Epoch: g.GetEpoch(), Count: g.GetCount()}
}

func generationProto(g home.Generation) *edgev1.Generation {
	return &edgev1.Generation{Epoch: g.Epoch, Count: g.Count}
}
