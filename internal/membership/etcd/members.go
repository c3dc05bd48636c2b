package etcd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
)

const (
	// hedgeAfter is how long a read is left to one member alone.
	hedgeAfter = 400 * time.Millisecond
	// shunFor is how long a member that does not answer is left alone.
	shunFor = 10 * time.Second
)

var errShunned = errors.New("it did not answer of late, and others do")

// members are the members of etcd, to which calls go in turn. One that is not
// well, while the others are, holds up little:
//
//  1. One that knows no leader refuses calls, and they go to the next: what is
//     refused was not done.
//  2. A read that is not answered in hedgeAfter is asked of another, too.
//  3. If that one answers in less than half the time, the connection to the
//     first is closed, with all that waits there, and none is opened for
//     shunFor. There is always one that is not shunned. See ADR 21.
type members struct {
	count int
	dial  func(ctx context.Context, addr string) (net.Conn, error)
	log   *slog.Logger

	mu      sync.Mutex
	conns   map[string]net.Conn  // by address, as it was dialed: the last one
	shunned map[string]time.Time // by address: until when
}

func newMembers(count int, dial func(context.Context, string) (net.Conn, error), log *slog.Logger) *members {
	return &members{count: count, dial: dial, log: log, conns: map[string]net.Conn{}, shunned: map[string]time.Time{}}
}

// connect opens a connection, but not to a member that is shunned.
func (m *members) connect(ctx context.Context, addr string) (net.Conn, error) {
	if m.shuns(addr) {
		return nil, errShunned
	}
	conn, err := m.dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conns[addr] = conn
	return conn, nil
}

func (m *members) shuns(addr string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Now().Before(m.shunned[addr])
}

// shun closes the connection to a member and opens none for a while.
func (m *members) shun(remote net.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	left := m.count - 1
	for _, until := range m.shunned {
		if now.Before(until) {
			left--
		}
	}
	for addr, conn := range m.conns {
		if left < 1 || conn.RemoteAddr().String() != remote.String() || now.Before(m.shunned[addr]) {
			continue
		}
		m.shunned[addr] = now.Add(shunFor)
		_ = conn.Close() // it is of no use, whatever it says
		m.log.Warn("a member of etcd does not answer, and others do; going on without it",
			slog.String("member", addr), slog.Duration("for", shunFor))
		return
	}
}

// forgive lets calls go to all members again.
func (m *members) forgive() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.shunned)
}

// unary is a [grpc.UnaryClientInterceptor].
func (m *members) unary(
	ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) (err error) {
	ctx = clientv3.WithRequireLeader(ctx)
	own := slices.DeleteFunc(slices.Clone(opts), func(o grpc.CallOption) bool {
		_, peers := o.(grpc.PeerCallOption) // which two calls at a time would both write to
		return peers
	})
	for range m.count {
		if into, reads := reply.(*etcdserverpb.RangeResponse); reads && m.count > 1 {
			err = m.read(ctx, into, func(ctx context.Context, reply *etcdserverpb.RangeResponse, from *peer.Peer) error {
				return invoke(ctx, method, req, reply, conn, append(slices.Clip(own), grpc.Peer(from))...)
			})
		} else {
			err = invoke(ctx, method, req, reply, conn, opts...)
		}
		if !errors.Is(rpctypes.Error(err), rpctypes.ErrNoLeader) {
			return err
		}
	}
	return err
}

// question is a read that one member is asked for.
type question struct {
	asked, over time.Time
	from        peer.Peer // known when it is over, if it was asked of anybody
	reply       etcdserverpb.RangeResponse
	err         error
}

// read asks one member, and after a while another.
func (m *members) read(
	ctx context.Context, reply *etcdserverpb.RangeResponse, ask func(context.Context, *etcdserverpb.RangeResponse, *peer.Peer) error,
) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	over := make(chan *question, 2)
	begin := func() *question {
		q := &question{asked: time.Now()}
		go func() {
			q.err = ask(ctx, &q.reply, &q.from)
			q.over = time.Now()
			over <- q
		}()
		return q
	}
	first := begin()
	late := time.NewTimer(hedgeAfter)
	defer late.Stop()
	var answer *question
	for open := 1; open > 0; {
		select {
		case <-late.C:
			begin()
			open++
		case q := <-over:
			open--
			late.Stop()
			if answer == nil || answer.err != nil {
				answer = q
			}
			if q.err == nil {
				cancel() // and wait for the other
			}
		}
	}
	if answer.err != nil {
		return answer.err
	}
	if answer != first && first.from.Addr != nil && answer.over.Sub(answer.asked) < first.over.Sub(first.asked)/2 {
		m.shun(first.from.Addr)
	}
	proto.Merge(reply, &answer.reply)
	return nil
}
