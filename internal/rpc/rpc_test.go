package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/run"
)

// broker is a service whose methods a test gives.
type broker struct {
	brokerv1.UnimplementedBrokerServiceServer
	identify func(ctx context.Context) error
	appends  func(grpc.BidiStreamingServer[brokerv1.AppendRequest, brokerv1.AppendResponse]) error
}

func (b broker) Identify(ctx context.Context, _ *brokerv1.IdentifyRequest) (*brokerv1.IdentifyResponse, error) {
	return &brokerv1.IdentifyResponse{}, b.identify(ctx)
}

func (b broker) Append(s grpc.BidiStreamingServer[brokerv1.AppendRequest, brokerv1.AppendResponse]) error {
	return b.appends(s)
}

// start serves a broker over memory; stop drains it and waits.
func start(t *testing.T, cfg rpc.ServerConfig, b broker) (conn *grpc.ClientConn, stop func()) {
	t.Helper()
	l := bufconn.Listen(1 << 16)
	server := rpc.NewServer(cfg, l)
	brokerv1.RegisterBrokerServiceServer(server, b)
	ctx, cancel := context.WithCancelCause(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	pool := rpc.NewPool(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) })
	conn, err := pool.Conn("memory:1")
	if err != nil {
		t.Fatal(err)
	}
	stop = func() {
		cancel(run.ErrDraining)
		<-ended
	}
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
		stop()
	})
	return conn, stop
}

func TestErrorsTravelWithTheirReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := map[string]error{}
		conn, _ := start(t, rpc.ServerConfig{}, broker{identify: func(context.Context) error { return answers["next"] }})
		for _, tt := range []struct {
			name   string
			err    error
			code   codes.Code
			reason channelv1.ErrorReason
		}{
			{
				"reason",
				rpc.Error(codes.OutOfRange, channelv1.ErrorReason_ERROR_REASON_HISTORY_LOST, "after %d", 7),
				codes.OutOfRange, channelv1.ErrorReason_ERROR_REASON_HISTORY_LOST,
			},
			{"draining", fmt.Errorf("append: %w", run.ErrDraining), codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_DRAINING},
			{"deadline", context.DeadlineExceeded, codes.DeadlineExceeded, 0},
			{"plain", errors.New("x"), codes.Unknown, 0},
			{"none", nil, codes.OK, 0},
		} {
			answers["next"] = tt.err
			_, err := brokerv1.NewBrokerServiceClient(conn).Identify(t.Context(), &brokerv1.IdentifyRequest{})
			if err != nil {
				err = fmt.Errorf("wrapped: %w", err)
			}
			if status.Code(err) != tt.code || rpc.Reason(err) != tt.reason {
				t.Errorf("%s: got %v, reason %v", tt.name, err, rpc.Reason(err))
			}
		}
	})
}

func TestPanicIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, _ := start(t, rpc.ServerConfig{}, broker{
			identify: func(context.Context) error { panic("as asked") },
			appends: func(grpc.BidiStreamingServer[brokerv1.AppendRequest, brokerv1.AppendResponse]) error {
				panic("as asked")
			},
		})
		client := brokerv1.NewBrokerServiceClient(conn)
		if _, err := client.Identify(t.Context(), nil); status.Code(err) != codes.Internal {
			t.Errorf("unary: %v", err)
		}
		stream, err := client.Append(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); status.Code(err) != codes.Internal {
			t.Errorf("stream: %v", err)
		}
	})
}

func TestDrainEndsStreamsWithAGoodbye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, stop := start(t, rpc.ServerConfig{Grace: time.Hour}, broker{
			appends: func(s grpc.BidiStreamingServer[brokerv1.AppendRequest, brokerv1.AppendResponse]) error {
				<-s.Context().Done()
				if err := s.Send(&brokerv1.AppendResponse{Answers: []*brokerv1.Answer{{Detail: "goodbye"}}}); err != nil {
					return err
				}
				return context.Cause(s.Context())
			},
		})
		stream, err := brokerv1.NewBrokerServiceClient(conn).Append(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		time.AfterFunc(time.Minute, stop)
		m, err := stream.Recv()
		if err != nil || m.GetAnswers()[0].GetDetail() != "goodbye" {
			t.Fatalf("got %v, %v", m, err)
		}
		if _, err := stream.Recv(); rpc.Reason(err) != channelv1.ErrorReason_ERROR_REASON_DRAINING {
			t.Errorf("ended with %v", err)
		}
		if took := time.Since(begin); took != time.Minute {
			t.Errorf("took %v", took)
		}
	})
}

// TestGoneAfterDrain has a handler go on after the drain began, until its peer
// is gone.
func TestGoneAfterDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, stop := start(t, rpc.ServerConfig{Grace: time.Hour}, broker{
			appends: func(s grpc.BidiStreamingServer[brokerv1.AppendRequest, brokerv1.AppendResponse]) error {
				<-s.Context().Done()
				<-rpc.Gone(s.Context())
				return context.Cause(s.Context())
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := brokerv1.NewBrokerServiceClient(conn).Append(ctx); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Minute, cancel)
		time.Sleep(time.Second)
		begin := time.Now()
		stop()
		if took := time.Since(begin); took != 59*time.Second {
			t.Errorf("the drain took %v", took)
		}
	})
}

func TestDrainInsistsAfterItsGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, stop := start(t, rpc.ServerConfig{Grace: 5 * time.Second}, broker{
			identify: func(ctx context.Context) error { // deaf to the goodbye
				<-ctx.Done()
				return ctx.Err()
			},
		})
		go func() {
			time.Sleep(time.Second)
			stop()
		}()
		begin := time.Now()
		_, err := brokerv1.NewBrokerServiceClient(conn).Identify(t.Context(), nil)
		if err == nil || time.Since(begin) != 6*time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		synctest.Wait()
	})
}

func TestHealthFollowsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ready atomic.Bool
		conn, _ := start(t, rpc.ServerConfig{Ready: func() error {
			if !ready.Load() {
				return errors.New("not yet")
			}
			return nil
		}}, broker{})
		health := healthv1.NewHealthClient(conn)
		for _, service := range []string{"", "comet.broker.v1.BrokerService"} {
			check := func(want healthv1.HealthCheckResponse_ServingStatus) {
				t.Helper()
				got, err := health.Check(t.Context(), &healthv1.HealthCheckRequest{Service: service})
				if err != nil || got.GetStatus() != want {
					t.Errorf("%q: %v, %v, want %v", service, got, err, want)
				}
			}
			ready.Store(false)
			time.Sleep(2 * time.Second)
			check(healthv1.HealthCheckResponse_NOT_SERVING)
			ready.Store(true)
			time.Sleep(2 * time.Second)
			check(healthv1.HealthCheckResponse_SERVING)
		}
	})
}

func TestRequestsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, _ := start(t, rpc.ServerConfig{}, broker{
			appends: func(s grpc.BidiStreamingServer[brokerv1.AppendRequest, brokerv1.AppendResponse]) error {
				_, err := s.Recv()
				return err
			},
		})
		stream, err := brokerv1.NewBrokerServiceClient(conn).Append(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&brokerv1.AppendRequest{Offers: []*brokerv1.Offer{{Data: make([]byte, rpc.MaxRequest)}}}); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("got %v", err)
		}
	})
}

type appends = grpc.BidiStreamingServer[brokerv1.AppendRequest, brokerv1.AppendResponse]

func TestReceive(t *testing.T) {
	testReceiving(t, func(s appends, take func(*brokerv1.AppendRequest)) error {
		requests, end := rpc.Receive(s)
		for req := range requests {
			take(req)
		}
		return end()
	})
}

func TestEach(t *testing.T) {
	testReceiving(t, func(s appends, take func(*brokerv1.AppendRequest)) error { return <-rpc.Each(s, take) })
}

func testReceiving(t *testing.T, receive func(s appends, take func(*brokerv1.AppendRequest)) error) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		result := make(chan error, 1)
		conn, _ := start(t, rpc.ServerConfig{}, broker{
			appends: func(s appends) error {
				err := receive(s, func(req *brokerv1.AppendRequest) { got = append(got, req.GetOffers()[0].GetChannel()) })
				result <- err
				return err
			},
		})
		client := brokerv1.NewBrokerServiceClient(conn)
		stream, err := client.Append(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []string{"/a", "/b"} {
			if err := stream.Send(&brokerv1.AppendRequest{Offers: []*brokerv1.Offer{{Channel: c}}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if err := <-result; err != nil || strings.Join(got, " ") != "/a /b" {
			t.Errorf("got %v, %v", got, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if _, err = client.Append(ctx); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		cancel()
		if err := <-result; status.Code(err) != codes.Canceled && !errors.Is(err, context.Canceled) {
			t.Errorf("a broken stream ended with %v", err)
		}
	})
}

func TestPool(t *testing.T) {
	pool := rpc.NewPool(nil)
	a, err := pool.Conn("127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	again, err := pool.Conn("127.0.0.1:1")
	if err != nil || a != again {
		t.Errorf("a second connection to one address: %v", err)
	}
	for i := range 1000 { // addresses that nobody uses any more do not pile up
		if _, err := pool.Conn(fmt.Sprintf("127.0.0.1:%d", i+2)); err != nil {
			t.Fatal(err)
		}
	}
	if n := pool.Len(); n > 300 {
		t.Errorf("%d connections are kept", n)
	}
	if err := pool.Close(); err != nil {
		t.Error(err)
	}
	if _, err := pool.Conn("127.0.0.1:1"); err == nil {
		t.Error("a closed pool connects")
	}
}

// TestPoolClosesAside: a peer that reads nothing is waited for, but not by those
// who ask for connections.
func TestPoolClosesAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		pool := rpc.NewPool(func(context.Context, string) (net.Conn, error) { return near, nil })
		conn, err := pool.Conn("deaf:1")
		if err != nil {
			t.Fatal(err)
		}
		conn.Connect()
		greet(t, far)
		synctest.Wait()
		begin := time.Now()
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			if err := pool.Close(); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		if _, err := pool.Conn("deaf:1"); err == nil {
			t.Error("a pool that closes connects")
		}
		<-closed
		if time.Since(begin) == 0 {
			t.Error("nothing was waited for")
		}
	})
}

// greet is a server of HTTP/2 up to where calls could be made; it reads no
// further.
func greet(t *testing.T, conn net.Conn) {
	t.Helper()
	head := make([]byte, len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")+9)
	if _, err := io.ReadFull(conn, head); err != nil {
		t.Fatal(err)
	}
	const window = 9 + 4                                                                   // an update of the connection's
	if _, err := io.CopyN(io.Discard, conn, int64(head[len(head)-7])+window); err != nil { // the client's settings
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0}); err != nil { // none of the server's
		t.Fatal(err)
	}
}

// TestPoolReconnects proves that a peer that was away is reached again within
// about a second of its return, however long it was away.
func TestPoolReconnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := bufconn.Listen(1 << 16)
		server := rpc.NewServer(rpc.ServerConfig{}, l)
		brokerv1.RegisterBrokerServiceServer(server, broker{identify: func(context.Context) error { return nil }})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- server.Run(ctx) }()
		var away atomic.Bool
		away.Store(true)
		pool := rpc.NewPool(func(ctx context.Context, _ string) (net.Conn, error) {
			if away.Load() {
				return nil, errors.New("nobody there")
			}
			return l.DialContext(ctx)
		})
		conn, err := pool.Conn("memory:1")
		if err != nil {
			t.Fatal(err)
		}
		client := brokerv1.NewBrokerServiceClient(conn)
		for range 60 { // callers try once a second
			if _, err := client.Identify(t.Context(), nil); status.Code(err) != codes.Unavailable {
				t.Fatalf("got %v", err)
			}
			time.Sleep(time.Second)
		}
		away.Store(false)
		back := time.Now()
		for {
			if _, err := client.Identify(t.Context(), nil); err == nil {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		if took := time.Since(back); took > 1300*time.Millisecond {
			t.Errorf("took %v", took)
		}
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
