package broker

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/services/broker/internal/controller"
)

// peerTimeout is how long another broker may take to answer a question that is
// asked again if it does not.
const peerTimeout = time.Second

// peers asks other brokers.
type peers struct {
	dial  func(ctx context.Context, addr string) (net.Conn, error)
	conns *rpc.Pool
}

// probe finds out whether a broker is still at its address.
func (p peers) probe(ctx context.Context, n membership.Node) controller.Verdict {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	socket, err := p.dial(ctx, n.Addr)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return controller.Gone
	case err != nil:
		return controller.Silent
	}
	_ = socket.Close() // nothing was sent
	conn, err := p.conns.Conn(n.Addr)
	if err != nil {
		return controller.Silent
	}
	who, err := brokerv1.NewBrokerServiceClient(conn).Identify(ctx, &brokerv1.IdentifyRequest{})
	switch {
	case err != nil:
		return controller.Silent
	case who.GetMember() == n.Member():
		return controller.Alive
	}
	return controller.Gone
}
