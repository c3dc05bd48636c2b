package transport_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/run"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
	"github.com/comet-push/comet/services/broker/internal/replica"
	"github.com/comet-push/comet/services/broker/internal/replica/transport"
)

// caller is a member that opens a stream by hand.
type caller struct {
	t      *testing.T
	stream grpc.BidiStreamingClient[brokerv1.ReplicateRequest, brokerv1.ReplicateResponse]
	cancel context.CancelFunc
	frames []byte // received and not taken
}

func call(t *testing.T, n network, to *member) *caller {
	t.Helper()
	synctest.Wait() // until it runs
	pool := rpc.NewPool(n.dial)
	conn, err := pool.Conn(to.node.Addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := brokerv1.NewBrokerServiceClient(conn).Replicate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
	return &caller{t: t, stream: stream, cancel: cancel}
}

func (c *caller) send(frames ...*brokerv1.ReplicaFrame) {
	c.t.Helper()
	if err := c.stream.Send(&brokerv1.ReplicateRequest{Frames: batch(c.t, frames...)}); err != nil {
		c.t.Fatal(err)
	}
}

// batch is frames as they are sent.
func batch(t *testing.T, frames ...*brokerv1.ReplicaFrame) (all []byte) {
	t.Helper()
	for _, f := range frames {
		b, err := proto.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(binary.BigEndian.AppendUint32(all, uint32(len(b))), b...)
	}
	return all
}

// next returns the next frame.
func (c *caller) next() (*brokerv1.ReplicaFrame, error) {
	for len(c.frames) == 0 {
		batch, err := c.stream.Recv()
		if err != nil {
			return nil, err
		}
		c.frames = batch.GetFrames()
	}
	f, rest, err := cut(c.frames)
	c.frames = rest
	return f, err
}

// cut returns the first frame of a batch and what comes after it.
func cut(batch []byte) (f *brokerv1.ReplicaFrame, rest []byte, err error) {
	size := binary.BigEndian.Uint32(batch)
	f = &brokerv1.ReplicaFrame{}
	return f, batch[4+size:], proto.Unmarshal(batch[4:4+size], f)
}

// end reads until the stream ends.
func (c *caller) end() error {
	for {
		if _, err := c.next(); err != nil {
			return err
		}
	}
}

func (c *caller) wantEnd(code codes.Code) {
	c.t.Helper()
	if err := c.end(); status.Code(err) != code {
		c.t.Errorf("ended with %v, want %v", err, code)
	}
}

func hello(member, to string, number uint64) *brokerv1.ReplicaFrame {
	return &brokerv1.ReplicaFrame{Kind: &brokerv1.ReplicaFrame_Hello{Hello: &brokerv1.ReplicaHello{
		Member: member, To: to, Version: 1, Number: number,
	}}}
}

func pong(number uint64) *brokerv1.ReplicaFrame {
	return &brokerv1.ReplicaFrame{Kind: &brokerv1.ReplicaFrame_Pong{Pong: number}}
}

func leave(slot, term int) *brokerv1.ReplicaFrame {
	return &brokerv1.ReplicaFrame{Slot: uint32(slot), Kind: &brokerv1.ReplicaFrame_Leave{
		Leave: &brokerv1.ReplicaLeave{Term: uint64(term)},
	}}
}

func appends(p *brokerv1.ReplicaAppend) *brokerv1.ReplicaFrame {
	return &brokerv1.ReplicaFrame{Slot: 3, Kind: &brokerv1.ReplicaFrame_Append{Append: p}}
}

func TestInvalidInput(t *testing.T) {
	greeting := hello("a@1", "z@1", 1)
	noVersion := hello("a@1", "z@1", 1)
	noVersion.GetHello().Version = 0
	terms := func(terms ...*brokerv1.ReplicaTerm) []*brokerv1.ReplicaFrame {
		return []*brokerv1.ReplicaFrame{greeting, {Kind: &brokerv1.ReplicaFrame_State{
			State: &brokerv1.ReplicaState{Term: 5, End: 10, Terms: terms},
		}}}
	}
	for _, tt := range []struct {
		name   string
		frames []*brokerv1.ReplicaFrame
		why    transport.Reason
	}{
		{"no frame", nil, transport.Invalid},
		{"no hello", []*brokerv1.ReplicaFrame{leave(1, 1), greeting}, transport.Invalid},
		{"hello for another", []*brokerv1.ReplicaFrame{hello("a@1", "z@2", 1)}, transport.Stranger},
		{"hello of one who sorts higher", []*brokerv1.ReplicaFrame{hello("zz@1", "z@1", 1)}, transport.Stranger},
		{"hello of itself", []*brokerv1.ReplicaFrame{hello("z@1", "z@1", 1)}, transport.Stranger},
		{"hello of nobody", []*brokerv1.ReplicaFrame{hello("", "z@1", 1)}, transport.Stranger},
		{"hello without a log-id", []*brokerv1.ReplicaFrame{hello("a@", "z@1", 1)}, transport.Stranger},
		{"hello without a version", []*brokerv1.ReplicaFrame{noVersion}, transport.Version},
		{"hello twice", []*brokerv1.ReplicaFrame{greeting, greeting}, transport.Invalid},
		{"no such slot", []*brokerv1.ReplicaFrame{greeting, leave(shard.Slots, 1)}, transport.Invalid},
		{"no kind", []*brokerv1.ReplicaFrame{greeting, {Slot: 1}}, transport.Invalid},
		{"pong to no ping", []*brokerv1.ReplicaFrame{greeting, pong(0)}, transport.Invalid},
		{"entry missing", []*brokerv1.ReplicaFrame{greeting, appends(&brokerv1.ReplicaAppend{
			Term: 1, Prev: 7, Entries: encoded(history.Entry{Offset: 8, Term: 1}, history.Entry{Offset: 10, Term: 1}),
		})}, transport.Invalid},
		{"entry of a later term", []*brokerv1.ReplicaFrame{greeting, appends(&brokerv1.ReplicaAppend{
			Term: 1, Prev: 7, Entries: encoded(history.Entry{Offset: 8, Term: 2}),
		})}, transport.Invalid},
		{"entry beyond all positions", []*brokerv1.ReplicaFrame{greeting, appends(&brokerv1.ReplicaAppend{
			Term: 1, Prev: shard.MaxPosition - 1, Entries: encoded(history.Entry{Offset: shard.MaxPosition, Term: 1}),
		})}, transport.Invalid},
		{"entry at the end of all numbers", []*brokerv1.ReplicaFrame{greeting, appends(&brokerv1.ReplicaAppend{
			Term: 1, Prev: math.MaxUint64, Entries: encoded(history.Entry{}),
		})}, transport.Invalid},
		{"half an entry", []*brokerv1.ReplicaFrame{greeting, appends(&brokerv1.ReplicaAppend{
			Term: 1, Prev: 7, Entries: encoded(history.Entry{Offset: 8, Term: 1, Data: []byte("12345")})[:29],
		})}, transport.Invalid},
		{"terms in no order", terms(&brokerv1.ReplicaTerm{Term: 2, Last: 3}, &brokerv1.ReplicaTerm{Term: 1, Last: 4}), transport.Invalid},
		{"ends in no order", terms(&brokerv1.ReplicaTerm{Term: 1, Last: 3}, &brokerv1.ReplicaTerm{Term: 2, Last: 3}), transport.Invalid},
		{"term beyond the end", terms(&brokerv1.ReplicaTerm{Term: 1, Last: 11}), transport.Invalid},
		{"too many pieces", []*brokerv1.ReplicaFrame{greeting, {Kind: &brokerv1.ReplicaFrame_Ack{
			Ack: &brokerv1.ReplicaAck{Pieces: 1 << 31},
		}}}, transport.Invalid},
		{"piece of a high number", []*brokerv1.ReplicaFrame{greeting, {Kind: &brokerv1.ReplicaFrame_Piece{
			Piece: &brokerv1.ReplicaPiece{Seq: 1 << 31},
		}}}, transport.Invalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, j := newMemory(), newJournal(t)
				z := start(t, n, node("z", 1), j)
				c := call(t, n, z)
				c.send(tt.frames...)
				c.wantEnd(codes.InvalidArgument)
				z.ended(t, tt.why, 1)
				if up := len(tt.frames) > 1 && tt.frames[0] == greeting; up {
					j.want("up a@1", "down a@1")
				} else {
					j.want()
				}
			})
		})
	}
}

// What came before the part that is not valid is handed over.
func TestValidInputBeforeInvalid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, j := newMemory(), newJournal(t)
		c := call(t, n, start(t, n, node("z", 1), j))
		c.send(hello("a@1", "z@1", 1), leave(1, 1), leave(1, 2), leave(256, 1), leave(1, 3))
		c.wantEnd(codes.InvalidArgument)
		j.want("up a@1", "told a@1 1", "told a@1 2", "down a@1")
	})
}

func TestNoHelloInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, j := newMemory(), newJournal(t)
		z := start(t, n, node("z", 1), j)
		c := call(t, n, z)
		began := time.Now()
		c.wantEnd(codes.Aborted)
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("took %v", took)
		}
		z.ended(t, transport.Silent, 1)
	})
}

func TestPongComesBehindWhatWasQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, j := newMemory(), newJournal(t)
		z := start(t, n, node("z", 1), j)
		c := call(t, n, z)
		c.send(hello("a@1", "z@1", 1))
		synctest.Wait()
		// More than fits into buffers: some is being sent, the rest waits.
		large := &replica.Append{Term: 1, Round: 1, Entries: []*history.Entry{{Offset: 1, Data: make([]byte, 64<<10)}}}
		for range 40 {
			z.Send("a@1", 1, large)
			synctest.Wait()
		}
		c.send(&brokerv1.ReplicaFrame{Kind: &brokerv1.ReplicaFrame_Ping{Ping: 77}})
		synctest.Wait()
		for range 40 {
			z.Send("a@1", 1, large)
		}
		appends, at := 0, 0
		for appends < 80 {
			f, err := c.next()
			if err != nil {
				t.Fatal(err)
			}
			switch f.GetKind().(type) {
			case *brokerv1.ReplicaFrame_Append:
				appends++
			case *brokerv1.ReplicaFrame_Pong:
				if f.GetPong() != 77 {
					t.Errorf("pong %d", f.GetPong())
				}
				at = appends
			}
		}
		if at != 40 {
			t.Errorf("the pong came after %d of the 40 messages that were queued before", at)
		}
	})
}

// Pieces of snapshots come in their order, one at a time, and everything else
// passes them.
func TestPiecesLetOthersPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, j := newMemory(), newJournal(t)
		z := start(t, n, node("z", 1), j)
		c := call(t, n, z)
		c.send(hello("a@1", "z@1", 1))
		if _, err := c.next(); err != nil {
			t.Fatal(err)
		}
		const pieces = 200
		for seq := range pieces {
			z.Send("a@1", 1, &replica.Piece{Term: 1, Round: 1, Seq: seq})
		}
		z.Send("a@1", 2, &replica.Leave{Term: 7})
		begin, passed := time.Now(), 0
		for seq := 0; seq < pieces; {
			f, err := c.next()
			if err != nil {
				t.Fatal(err)
			}
			if f.GetLeave() != nil {
				passed = pieces - seq
				continue
			}
			if got := int(f.GetPiece().GetSeq()); got != seq {
				t.Fatalf("piece %d, want %d", got, seq)
			}
			seq++
		}
		if took := time.Since(begin); took < 150*time.Millisecond || took > 300*time.Millisecond {
			t.Errorf("%d pieces took %v", pieces, took)
		}
		if passed < pieces-2 {
			t.Errorf("%d pieces came behind what was sent after them", passed)
		}
	})
}

func TestHeardComesBehindWhatWasSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, j := newMemory(), newJournal(t)
		var sent time.Time
		z := start(t, n, node("z", 1), heardHandler{j, &sent})
		c := call(t, n, z)
		c.send(hello("a@1", "z@1", 1))
		f, err := c.next()
		if err != nil || f.GetHello().GetMember() != "z@1" {
			t.Fatal(f, err)
		}
		f, err = c.next()
		if err != nil || f.GetPing() != 1 {
			t.Fatal(f, err)
		}
		pinged := time.Now()
		time.Sleep(2500 * time.Millisecond)
		c.send(leave(1, 1))
		c.send(leave(1, 2), pong(1), leave(1, 3))
		synctest.Wait()
		j.mu.Lock()
		got := fmt.Sprint(j.lines)
		j.mu.Unlock()
		if want := "[up a@1 told a@1 1 told a@1 2 heard a@1 told a@1 3]"; got != want {
			t.Errorf("heard %s, want %s", got, want)
		}
		if !sent.Equal(pinged) {
			t.Errorf("the ping was sent at %v, not %v", sent, pinged)
		}
		// Only then comes another, which once answered does not count again.
		if f, err = c.next(); err != nil || f.GetPing() != 2 {
			t.Fatal(f, err)
		}
		c.send(pong(2), pong(2))
		c.wantEnd(codes.InvalidArgument)
	})
}

// heardHandler keeps the time of the last ping that was answered.
type heardHandler struct {
	*journal
	sent *time.Time
}

func (h heardHandler) Heard(member string, sent time.Time) {
	h.journal.Heard(member, sent)
	*h.sent = sent
}

// Pings alone, as of one whose reader is stuck, are no sign of life.
func TestPingsAreNoSignOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, j := newMemory(), newJournal(t)
		z := start(t, n, node("z", 1), j)
		c := call(t, n, z)
		c.send(hello("a@1", "z@1", 1))
		for i := range 10 {
			time.Sleep(450 * time.Millisecond)
			// It ends meanwhile: then the frame goes nowhere.
			_ = c.stream.Send(&brokerv1.ReplicateRequest{Frames: batch(t, &brokerv1.ReplicaFrame{
				Kind: &brokerv1.ReplicaFrame_Ping{Ping: uint64(i + 1)},
			})})
		}
		j.want("up a@1", "down a@1")
		c.wantEnd(codes.Aborted)
		z.ended(t, transport.Silent, 1)
	})
}

func TestNewerStreamReplacesOlder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, j := newMemory(), newJournal(t)
		z := start(t, n, node("z", 1), j)
		busy := make(chan struct{})
		j.then(func(string, shard.Slot, replica.Message) { <-busy })

		first := call(t, n, z)
		first.send(hello("a@1", "z@1", 10), leave(1, 1), leave(1, 2))
		first.send(leave(1, 3))
		j.want("up a@1", "told a@1 1")

		// All of these wait for the handler; the newest has it then.
		second, third, late := call(t, n, z), call(t, n, z), call(t, n, z)
		second.send(hello("a@1", "z@1", 11), leave(2, 1))
		synctest.Wait()
		third.send(hello("a@1", "z@1", 12), leave(3, 1))
		synctest.Wait()
		late.send(hello("a@1", "z@1", 9), leave(4, 1))
		late.wantEnd(codes.Aborted)
		z.Send("a@1", 5, &replica.Leave{Term: 1}) // by one who has not heard Down yet
		other := call(t, n, z)
		other.send(hello("b@1", "z@1", 1))
		j.want("up a@1", "told a@1 1", "up b@1")

		j.then(nil)
		close(busy)
		first.wantEnd(codes.Aborted)
		second.wantEnd(codes.Aborted)
		third.send(leave(3, 2))
		j.want("up a@1", "told a@1 1", "up b@1", "down a@1", "up a@1", "told a@1 1", "told a@1 2")
		z.ended(t, transport.Replaced, 3)

		z.Send("a@1", 5, &replica.Leave{Term: 2})
		f, err := third.next()
		if err != nil || f.GetHello() == nil {
			t.Fatal(f, err)
		}
		if f, err = third.next(); err != nil || f.GetLeave().GetTerm() != 2 {
			t.Fatal(f, err)
		}
	})
}

// answerer is a member that answers streams by hand.
type answerer struct {
	brokerv1.UnimplementedBrokerServiceServer
	answer func(call grpc.BidiStreamingServer[brokerv1.ReplicateRequest, brokerv1.ReplicateResponse], hello *brokerv1.ReplicaHello) error
}

func (s answerer) Replicate(call grpc.BidiStreamingServer[brokerv1.ReplicateRequest, brokerv1.ReplicateResponse]) error {
	first, err := call.Recv()
	if err != nil {
		return err
	}
	f, _, err := cut(first.GetFrames())
	if err != nil {
		return err
	}
	return s.answer(call, f.GetHello())
}

func TestInvalidAnswers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer func(h *brokerv1.ReplicaHello) []*brokerv1.ReplicaFrame
		why    transport.Reason
	}{
		{"another member", func(h *brokerv1.ReplicaHello) []*brokerv1.ReplicaFrame {
			return []*brokerv1.ReplicaFrame{hello("z@2", h.GetMember(), h.GetNumber())}
		}, transport.Stranger},
		{"for another", func(h *brokerv1.ReplicaHello) []*brokerv1.ReplicaFrame {
			return []*brokerv1.ReplicaFrame{hello("z@1", "a@2", h.GetNumber())}
		}, transport.Stranger},
		{"for another stream", func(h *brokerv1.ReplicaHello) []*brokerv1.ReplicaFrame {
			return []*brokerv1.ReplicaFrame{hello("z@1", "a@1", h.GetNumber()-1)}
		}, transport.Invalid},
		{"no hello", func(*brokerv1.ReplicaHello) []*brokerv1.ReplicaFrame {
			return []*brokerv1.ReplicaFrame{leave(1, 1)}
		}, transport.Invalid},
		{"nothing", func(*brokerv1.ReplicaHello) []*brokerv1.ReplicaFrame { return nil }, transport.Silent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, j := newMemory(), newJournal(t)
				calls, last := 0, uint64(0)
				z := serve(t, n, node("z", 1), func(
					call grpc.BidiStreamingServer[brokerv1.ReplicateRequest, brokerv1.ReplicateResponse], h *brokerv1.ReplicaHello,
				) error {
					calls++
					if h.GetNumber() <= last || h.GetTo() != "z@1" {
						t.Errorf("hello %v after %d", h, last)
					}
					last = h.GetNumber()
					if frames := tt.answer(h); frames != nil {
						if err := call.Send(&brokerv1.ReplicateResponse{Frames: batch(t, frames...)}); err != nil {
							return err
						}
					}
					<-call.Context().Done()
					return call.Context().Err()
				})
				a := start(t, n, node("a", 1), j)
				a.Peers([]membership.Node{z})
				time.Sleep(time.Minute)
				j.want()
				a.stop()
				if calls < 10 || calls > 130 {
					t.Errorf("%d calls in a minute", calls)
				}
				a.ended(t, tt.why, calls-a.ends(t, transport.Stopped)) // the last one may have been under way
			})
		})
	}
}

// serve serves answers by hand.
func serve(
	t *testing.T, n network, self membership.Node,
	answer func(grpc.BidiStreamingServer[brokerv1.ReplicateRequest, brokerv1.ReplicateResponse], *brokerv1.ReplicaHello) error,
) membership.Node {
	t.Helper()
	server := rpc.NewServer(rpc.ServerConfig{Grace: time.Second}, n.listen(t, self.Addr))
	brokerv1.RegisterBrokerServiceServer(server, answerer{answer: answer})
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel(run.ErrDraining)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return self
}

func TestAcceptWithoutRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemory()
		idle, err := transport.New(transport.Config{Self: "z@1", Conns: rpc.NewPool(n.dial), Handler: newJournal(t)})
		if err != nil {
			t.Fatal(err)
		}
		server := rpc.NewServer(rpc.ServerConfig{Grace: time.Second}, n.listen(t, "z:7070"))
		brokerv1.RegisterBrokerServiceServer(server, service{mesh: idle})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- server.Run(ctx) }()
		c := call(t, n, &member{node: node("z", 1)})
		if err := c.end(); rpc.Reason(err) != channelv1.ErrorReason_ERROR_REASON_NOT_READY {
			t.Errorf("ended with %v", err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	pool := rpc.NewPool(nil)
	for _, cfg := range []transport.Config{
		{Self: "a", Conns: pool, Handler: handler{}},
		{Self: "a@1", Handler: handler{}},
		{Self: "a@1", Conns: pool},
	} {
		if _, err := transport.New(cfg); err == nil {
			t.Errorf("%+v: no error", cfg)
		}
	}
	if err := pool.Close(); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func encoded(entries ...history.Entry) []byte {
	var all []byte
	for _, e := range entries {
		all = e.AppendTo(all)
	}
	return all
}
