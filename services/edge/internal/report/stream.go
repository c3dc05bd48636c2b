package report

import (
	"context"
	"errors"
	"fmt"
	"time"

	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/rpc"
)

var (
	errEnded    = errors.New("presence ended the stream")
	errSilent   = errors.New("presence does not answer")
	errOverflow = errors.New("presence is too slow")
)

// stream is one stream to a node: one loop that owns all of it.
type stream struct {
	reporter *Reporter
	feed     *feed
	out      edgev1.ReportService_ReportClient
	answers  <-chan *edgev1.ReportResponse
	failed   func() error
	cancel   func()
	sent     uint64
	applied  uint64
}

// stream sends all sessions, then changes, until the stream breaks or ctx
// ends. Its own context outlives ctx for a goodbye.
func (r *Reporter) stream(ctx context.Context, f *feed, n membership.Node) error {
	conn, err := r.cfg.Conns.Conn(n.Addr)
	if err != nil {
		return err
	}
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(2*goodbye, cancel) })() // whatever blocks then
	out, err := edgev1.NewReportServiceClient(conn).Report(own)
	if err != nil {
		return fmt.Errorf("open report stream: %w", err)
	}
	s := &stream{reporter: r, feed: f, out: out, cancel: cancel}
	s.answers, s.failed = rpc.Receive(out)
	r.begin(f)
	if err := s.sync(ctx); err != nil {
		return err
	}
	r.syncs.Inc()
	return s.run(ctx)
}

// sync sends all sessions.
func (s *stream) sync(ctx context.Context) error {
	request := &edgev1.ReportRequest{Edge: s.reporter.cfg.Edge}
	for session := range s.reporter.source.Sessions() {
		if state, ok := s.reporter.source.State(session); ok {
			request.Changes = append(request.Changes, present(session, state))
		}
		if len(request.GetChanges()) < batchMost {
			continue
		}
		if err := s.send(ctx, request); err != nil {
			return err
		}
		request = &edgev1.ReportRequest{}
	}
	request.Synced = true
	return s.send(ctx, request)
}

// run sends changes, each a little after it was marked, with what is marked
// meanwhile. An idle stream does nothing.
func (s *stream) run(ctx context.Context) error {
	batch, silence := time.NewTimer(0), time.NewTimer(patience)
	defer batch.Stop()
	defer silence.Stop()
	for {
		select {
		case <-ctx.Done():
			return s.goodbye(ctx)
		case a, ok := <-s.answers:
			if err := s.heard(a, ok); err != nil {
				return err
			}
			silence.Reset(patience)
		case <-s.feed.marked:
			batch.Reset(batchEvery)
		case <-batch.C:
			if s.sent == s.applied {
				silence.Reset(patience)
			}
			if err := s.flush(ctx); err != nil {
				return err
			}
		case <-silence.C:
			if s.sent > s.applied {
				return errSilent
			}
		}
	}
}

// flush sends what changed.
func (s *stream) flush(ctx context.Context) error {
	for {
		changes, ok := s.reporter.take(s.feed)
		if !ok {
			return errOverflow
		}
		if len(changes) == 0 {
			return nil
		}
		request := &edgev1.ReportRequest{}
		for session, reason := range changes {
			if reason != "" {
				request.Changes = append(request.Changes, gone(session, reason))
			} else if state, ok := s.reporter.source.State(session); ok {
				request.Changes = append(request.Changes, present(session, state))
			} // else its end is about to be marked
		}
		if err := s.send(ctx, request); err != nil {
			return err
		}
	}
}

func present(session string, state *edgev1.SessionState) *edgev1.SessionChange {
	return &edgev1.SessionChange{Session: session, Change: &edgev1.SessionChange_Present{Present: state}}
}

func gone(session, reason string) *edgev1.SessionChange {
	return &edgev1.SessionChange{Session: session, Change: &edgev1.SessionChange_Gone{Gone: &edgev1.SessionGone{Reason: reason}}}
}

// send sends one batch once the window has room for it.
func (s *stream) send(ctx context.Context, request *edgev1.ReportRequest) error {
	for s.sent-s.applied >= window {
		wait := time.NewTimer(patience)
		select {
		case a, ok := <-s.answers:
			wait.Stop()
			if err := s.heard(a, ok); err != nil {
				return err
			}
		case <-wait.C:
			return errSilent
		case <-ctx.Done():
			wait.Stop()
			return context.Cause(ctx)
		}
	}
	s.sent++
	blocked := time.AfterFunc(patience, s.cancel) // a node that does not read
	defer blocked.Stop()
	if s.out.Send(request) == nil {
		return nil
	}
	for range s.answers { // until the receiver knows why
	}
	return errors.Join(errEnded, s.failed())
}

func (s *stream) heard(a *edgev1.ReportResponse, ok bool) error {
	if !ok {
		return errors.Join(errEnded, s.failed())
	}
	s.applied = max(s.applied, a.GetApplied())
	return nil
}

// goodbye sends the last changes and waits until they are applied.
func (s *stream) goodbye(ctx context.Context) error {
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	if err := s.flush(late); err != nil {
		return err
	}
	if err := s.out.CloseSend(); err != nil {
		return fmt.Errorf("end report stream: %w", err)
	}
	for {
		select {
		case a, ok := <-s.answers:
			if err := s.heard(a, ok); err != nil {
				return err
			}
		case <-late.Done():
			return errSilent
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
