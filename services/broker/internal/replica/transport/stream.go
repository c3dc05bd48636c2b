package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"time"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/replica"
)

const (
	// protocol is the newest version of the protocol that is spoken here.
	protocol = 1
	// patience is how many heartbeats a silent stream lives.
	patience = 3
	// pieceEvery is how often a piece of a snapshot is sent: with pieces of
	// [replica.DefaultPiece] 16 MB/s at most, so that publishers feel little of
	// members that catch up.
	pieceEvery = time.Millisecond
	// maxName bounds the name of a member.
	maxName = 512
)

// stream is one stream to a member. Its owner is converse; two goroutines beside
// it read and write.
type stream struct {
	mesh   *Mesh
	ctx    context.Context //nolint:containedctx // that of the call
	cancel context.CancelCauseFunc
	pipe   pipe
	caller bool // it was opened here
	tasks  sync.WaitGroup

	// Static once the member is known.
	member string
	number uint64
	lived  time.Duration // how long it was up; converse's own

	hello chan *brokerv1.ReplicaHello // the first frame that came
	up    chan struct{}               // closed when the handler has heard Up
	turn  chan struct{}               // holds a token while the handler hears what came
	out   *queue
	gone  chan struct{} // closed when the handler has heard Down, or never will hear Up
}

// pipe is a gRPC stream, on either side, that carries batches of frames.
type pipe interface {
	// send does not keep the bytes.
	send(frames []byte) error
	// recv returns bytes that are the caller's.
	recv() ([]byte, error)
}

func (m *Mesh) newStream(ctx context.Context, cancel context.CancelCauseFunc) *stream {
	return &stream{
		mesh: m, ctx: ctx, cancel: cancel,
		hello: make(chan *brokerv1.ReplicaHello, 1),
		up:    make(chan struct{}),
		turn:  make(chan struct{}, 1),
		out:   newQueue(m.cfg.QueueBytes),
		gone:  make(chan struct{}),
	}
}

// end ends the stream; only the first reason counts.
func (s *stream) end(why Reason, err error) { s.cancel(&ending{why, err}) }

// converse lives the stream from its hello to its end. On the accepting side
// goroutines may remain until its call has returned, but they do nothing.
func (s *stream) converse() *ending {
	if err := s.meet(); err != nil {
		s.cancel(err)
	} else {
		s.live()
	}
	otherwise := Broken
	if s.caller {
		otherwise = Stopped // only Run's context is around it
	}
	e := endingOf(context.Cause(s.ctx), otherwise)
	s.mesh.report(s, e)
	return e
}

// meet exchanges hellos.
func (s *stream) meet() error {
	if s.caller {
		if err := s.sayHello(); err != nil {
			return err
		}
	}
	s.tasks.Go(s.read)
	timeout := time.AfterFunc(patience*s.mesh.cfg.Heartbeat, func() { s.end(Silent, errors.New("no hello")) })
	defer timeout.Stop()
	select {
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	case hello := <-s.hello:
		return s.know(hello)
	}
}

func (s *stream) sayHello() error {
	err := s.pipe.send(appendFrame(nil, &brokerv1.ReplicaFrame{Kind: &brokerv1.ReplicaFrame_Hello{Hello: &brokerv1.ReplicaHello{
		Member: s.mesh.cfg.Self, To: s.member, Version: protocol, Number: s.number,
	}}}))
	if err != nil {
		return &ending{Broken, err}
	}
	return nil
}

// know checks who is at the other end.
func (s *stream) know(hello *brokerv1.ReplicaHello) error {
	self, member := s.mesh.cfg.Self, hello.GetMember()
	switch {
	case hello.GetVersion() == 0:
		return &ending{Version, errors.New("hello without a version")}
	case !validMember(member):
		return &ending{Stranger, errors.New("hello without a member")}
	case hello.GetTo() != self:
		return &ending{Stranger, fmt.Errorf("%s is looking for %q here, which is %s", member, hello.GetTo(), self)}
	case s.caller && member != s.member:
		return &ending{Stranger, fmt.Errorf("%s answered instead of %s", member, s.member)}
	case s.caller && hello.GetNumber() != s.number:
		return &ending{Invalid, fmt.Errorf("stream %d was answered as %d", s.number, hello.GetNumber())}
	case !s.caller && member >= self:
		return &ending{Stranger, fmt.Errorf("%s is not to open streams to %s, which sorts lower", member, self)}
	}
	s.member, s.number = member, hello.GetNumber()
	return nil
}

func validMember(member string) bool {
	name, id, ok := strings.Cut(member, "@")
	return ok && name != "" && id != "" && len(member) <= maxName
}

// live is the stream's time as the one of its member.
func (s *stream) live() {
	defer close(s.gone)
	if !s.mesh.attach(s) {
		return
	}
	defer s.mesh.detach(s)
	if s.ctx.Err() != nil {
		return // while it waited
	}
	if !s.caller {
		if err := s.sayHello(); err != nil {
			s.cancel(err)
			return
		}
	}
	began := time.Now()
	s.tasks.Go(s.write)
	s.out.open()
	s.mesh.metrics.streams.Inc()
	s.mesh.cfg.Logger.Info("replication stream is up", slog.String("member", s.member))
	s.mesh.cfg.Handler.Up(s.member)
	close(s.up)

	<-s.ctx.Done()
	s.turn <- struct{}{} // never taken back: the reader hands nothing over any more
	s.out.close()
	s.mesh.metrics.streams.Dec()
	s.mesh.cfg.Handler.Down(s.member)
	s.lived = time.Since(began)
}

// attach makes a stream the one of its member, once the handler has heard the
// end of the one before; false if that is newer.
func (m *Mesh) attach(s *stream) bool {
	m.mu.Lock()
	old := m.streams[s.member]
	if old != nil && old.number > s.number {
		m.mu.Unlock()
		s.end(Replaced, errors.New("it came late"))
		return false
	}
	m.streams[s.member] = s
	m.mu.Unlock()
	if old != nil {
		old.end(Replaced, nil)
		<-old.gone
	}
	return true
}

func (m *Mesh) detach(s *stream) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.streams[s.member] == s {
		delete(m.streams, s.member)
	}
}

// report counts and logs the end of a stream.
func (m *Mesh) report(s *stream, e *ending) {
	m.metrics.ends.WithLabelValues(string(e.why)).Inc()
	level := slog.LevelWarn
	switch e.why {
	case Stopped, Broken, Replaced:
		level = slog.LevelInfo
		if s.lived == 0 {
			level = slog.LevelDebug // nobody has heard of it
		}
	}
	m.cfg.Logger.Log(s.ctx, level, "replication stream ended",
		slog.String("member", s.member), slog.String("reason", string(e.why)), slog.Any("error", e.err))
}

// read hands over what comes.
func (s *stream) read() {
	frames, err := s.pipe.recv()
	if err == nil {
		var hello *brokerv1.ReplicaHello
		if hello, frames = cutHello(frames); hello == nil {
			s.end(Invalid, errors.New("it did not begin with hello"))
			return
		}
		s.hello <- hello
		select {
		case <-s.up:
		case <-s.ctx.Done():
			return
		}
	}
	for err == nil {
		if err := s.hear(frames); err != nil {
			s.end(Invalid, err)
			return
		}
		frames, err = s.pipe.recv()
	}
	s.end(Broken, err)
}

// hear handles a batch; nothing if the stream has ended.
func (s *stream) hear(frames []byte) error {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-s.ctx.Done():
		return nil
	}
	for alive := false; len(frames) > 0 && s.ctx.Err() == nil; {
		b, rest, ok := cut(frames)
		if !ok {
			return errors.New("a batch ends within a frame")
		}
		f, err := decode(b)
		if err != nil {
			return err
		}
		if !alive && f.ping == 0 {
			s.out.alive()
			alive = true
		}
		if err := s.hearFrame(f); err != nil {
			return err
		}
		frames = rest
	}
	return nil
}

func (s *stream) hearFrame(f frame) error {
	switch {
	case f.message != nil:
		s.mesh.cfg.Handler.Receive(s.member, f.slot, f.message)
	case f.ping != 0:
		s.put(item{frame: frame{pong: f.ping}, size: overhead})
	default:
		sent, ok := s.out.answered(f.pong)
		if !ok {
			return fmt.Errorf("pong %d answers no ping", f.pong)
		}
		s.mesh.cfg.Handler.Heard(s.member, sent)
	}
	return nil
}

func (s *stream) send(slot shard.Slot, m replica.Message) {
	s.put(item{frame: frame{slot: slot, message: m}, size: size(m)})
}

func (s *stream) put(i item) {
	if !s.out.put(i) {
		s.end(Overflow, fmt.Errorf("more than %d bytes waited", s.mesh.cfg.QueueBytes))
	}
}

// beat is a heartbeat. While the handler is busy what has come may wait to be
// read, so that the silence of the member means nothing.
func (s *stream) beat() {
	if busy := len(s.turn) > 0; !s.out.beat(busy) {
		s.end(Silent, nil)
	}
}

// write sends what waits.
func (s *stream) write() {
	var (
		items  []item
		frames []byte
		next   time.Time // when a piece of a snapshot may go
	)
	pace := time.NewTimer(0)
	defer pace.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-pace.C:
		case <-s.out.wake:
			runtime.Gosched() // more may be on its way
		}
		items = s.out.take(items)
		if s.out.behind() {
			if now := time.Now(); !now.Before(next) {
				items = s.out.takePiece(items)
				next = now.Add(pieceEvery)
			}
			pace.Reset(time.Until(next))
		}
		for rest := items; ; {
			ping := s.out.ping(time.Now())
			n, bytes := fit(rest)
			if n == 0 && ping == 0 {
				break
			}
			frames = encode(frames[:0], ping, rest[:n])
			if err := s.pipe.send(frames); err != nil {
				s.end(Broken, err)
				return
			}
			s.out.sent(bytes)
			rest = rest[n:]
		}
	}
}
