package report

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
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
	vector   []uint64  // as it was sent last
	awaited  []awaited // by batch
}

// awaited is who waits until a batch was applied.
type awaited struct {
	batch    uint64
	confirms []*confirmation
}

// stream sends all sessions of the node's shards, then changes, until the stream
// breaks or ctx ends. Its own context outlives ctx for a goodbye.
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
	defer s.giveUp()
	r.begin(f)
	if err := s.send(ctx, &edgev1.ReportRequest{Edge: r.cfg.Edge}); err != nil {
		return err
	}
	if err := s.flush(ctx); err != nil {
		return err
	}
	if err := s.beat(ctx); err != nil { // the records count from its vector
		return err
	}
	r.syncs.Inc()
	return s.run(ctx)
}

// sync sends all sessions of the shards that are newly held.
func (s *stream) sync(ctx context.Context) error {
	shards := s.reporter.takeShards(s.feed)
	if len(shards) == 0 {
		return nil
	}
	var wanted [shard.PresenceShards]bool
	request := &edgev1.ReportRequest{}
	for _, n := range shards {
		wanted[n] = true
		request.BegunShards = append(request.BegunShards, uint32(n))
	}
	for session := range s.reporter.source.Sessions() {
		if !wanted[shard.OfSession(session)] {
			continue
		}
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
	for _, n := range shards {
		request.SyncedShards = append(request.SyncedShards, uint32(n))
	}
	return s.send(ctx, request)
}

// run sends changes, each a little after it was marked, with what is marked
// meanwhile, and vectors.
func (s *stream) run(ctx context.Context) error {
	batch, silence := time.NewTimer(0), time.NewTimer(patience)
	defer batch.Stop()
	defer silence.Stop()
	beat := time.NewTicker(beatEach)
	defer beat.Stop()
	for due := time.Now(); ; {
		var err error
		select {
		case <-ctx.Done():
			return s.goodbye(ctx)
		case a, ok := <-s.answers:
			if err = s.heard(a, ok); err == nil {
				silence.Reset(patience)
			}
		case <-s.feed.marked:
			if at := time.Now().Add(s.reporter.wait(s.feed)); due.IsZero() || at.Before(due) {
				due = at
				batch.Reset(time.Until(at))
			}
		case <-batch.C:
			due = time.Time{}
			s.rested(silence)
			err = s.flush(ctx)
		case <-beat.C:
			s.rested(silence)
			err = s.beat(ctx)
		case <-silence.C:
			if s.sent > s.applied {
				err = errSilent
			}
		}
		if err != nil {
			return err
		}
	}
}

// rested begins the time for an answer anew if none is due.
func (s *stream) rested(silence *time.Timer) {
	if s.sent == s.applied {
		silence.Reset(patience)
	}
}

// beat sends the vector, behind all that was marked before, and what some shards
// sum up to.
func (s *stream) beat(ctx context.Context) error {
	request := &edgev1.ReportRequest{}
	if vector := s.reporter.source.Vector(); vector != nil && !slices.Equal(vector, s.vector) {
		s.vector = vector
		request.Vector = &edgev1.Vector{Offsets: vector}
	}
	shards, marks := s.reporter.summable(s.feed)
	if err := s.flush(ctx); err != nil {
		return err
	}
	sums := s.reporter.source.Sums(shards)
	for i, n := range shards {
		if sum, known := sums[n]; known && s.reporter.unmarked(s.feed, n, marks[i]) {
			request.Sums = append(request.Sums, &edgev1.ShardSum{Shard: uint32(n), Sessions: sum.Sessions, Hash: sum.Hash})
		}
	}
	if request.Vector == nil && len(request.GetSums()) == 0 {
		return nil
	}
	return s.send(ctx, request)
}

// flush sends shards that are newly held, and what changed.
func (s *stream) flush(ctx context.Context) error {
	for {
		if err := s.sync(ctx); err != nil {
			return err
		}
		changes, unsent, ok := s.reporter.take(s.feed)
		s.reporter.settle(unsent, false)
		if !ok {
			return errOverflow
		}
		if len(changes) == 0 {
			return nil
		}
		request := &edgev1.ReportRequest{}
		var confirms []*confirmation
		for session, m := range changes {
			request.Changes = append(request.Changes, s.changes(session, m)...)
			confirms = append(confirms, m.confirms...)
		}
		if len(confirms) > 0 {
			s.awaited = append(s.awaited, awaited{s.sent + 1, confirms})
		}
		if err := s.send(ctx, request); err != nil {
			return err
		}
	}
}

// changes is what there is to tell of a session.
func (s *stream) changes(session string, m marks) (changes []*edgev1.SessionChange) {
	if m.gone != nil {
		changes = append(changes, gone(session, m.gone))
	}
	source := s.reporter.source
	switch { // what is not there any more is about to be marked as gone
	case m.changed:
		if state, ok := source.State(session); ok {
			changes = append(changes, present(session, state))
		}
	case m.resumed:
		if resume, ok := source.Resume(session); ok {
			changes = append(changes, &edgev1.SessionChange{
				Session: session, Change: &edgev1.SessionChange_Resumed{Resumed: resume},
			})
		}
	}
	return changes
}

func present(session string, state *edgev1.SessionState) *edgev1.SessionChange {
	return &edgev1.SessionChange{Session: session, Change: &edgev1.SessionChange_Present{Present: state}}
}

func gone(session string, how *edgev1.SessionGone) *edgev1.SessionChange {
	return &edgev1.SessionChange{Session: session, Change: &edgev1.SessionChange_Gone{Gone: how}}
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
	s.reporter.bytes.Add(float64(proto.Size(request)))
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
	for len(s.awaited) > 0 && s.awaited[0].batch <= s.applied {
		s.reporter.settle(s.awaited[0].confirms, true)
		s.awaited = s.awaited[1:]
	}
	for _, refused := range a.GetSuperseded() {
		s.reporter.source.Superseded(refused.GetSession(), refused.GetGeneration(), refused.GetHome())
	}
	s.reporter.want(s.feed, a.GetWantedShards())
	return nil
}

// giveUp ends what waits for answers that will not come.
func (s *stream) giveUp() {
	for _, a := range s.awaited {
		s.reporter.settle(a.confirms, false)
	}
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
