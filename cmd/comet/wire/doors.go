package wire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/comet-push/comet/internal/httpd"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/rpc"
)

// inProcess is the address of the node door of a process that is alone.
const inProcess = "in-process"

// buffer is the size of a connection in memory, in bytes.
const buffer = 256 << 10

type dialer func(ctx context.Context, addr string) (net.Conn, error)

// listen opens a door; key is the setting that says where.
func (p *Process) listen(env Env, key, addr string) (net.Listener, error) {
	l, err := env.Listen(addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s: somebody else listens on %s; end that process, or choose another address with --%s=…: %w",
			key, addr, key, err)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%s: not allowed to listen on %s; choose a port above 1023 with --%s=…: %w", key, addr, key, err)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	p.listeners = append(p.listeners, l)
	return l, nil
}

func (p *Process) memory() *bufconn.Listener {
	l := bufconn.Listen(buffer)
	p.listeners = append(p.listeners, l)
	return l
}

// nodeDoor is the door for other nodes. The services of a process meet there in
// memory; one that is alone has no other door for nodes.
func (p *Process) nodeDoor(env Env, alone bool, targets []membership.Role) (*rpc.Server, dialer, error) {
	p.node = membership.Node{Name: p.cfg.Node.Name, ID: newID(), Roles: targets, Zone: p.cfg.Zone, Addr: inProcess}
	if p.disk != nil {
		p.node.ID, p.node.Durable = p.disk.ID(), true
	}
	local := p.memory()
	doors := []net.Listener{local}
	if !alone {
		l, err := p.listen(env, "node.listen", p.cfg.Node.Listen)
		if err != nil {
			return nil, nil, err
		}
		if p.node.Addr, err = advertised(p.cfg.Node.Advertise, l.Addr().String()); err != nil {
			return nil, nil, fmt.Errorf("node.advertise: %w", err)
		}
		p.addrs.Node = l.Addr().String()
		doors = append(doors, l)
	}
	self := p.node.Addr
	dial := func(ctx context.Context, addr string) (net.Conn, error) {
		if addr == self {
			return local.DialContext(ctx)
		}
		return env.Dial(ctx, addr)
	}
	server := rpc.NewServer(rpc.ServerConfig{
		Grace: p.cfg.DrainTimeout / 8, Logger: p.logger.With(slog.String("door", "node")),
	}, doors...)
	p.add("node door", server)
	return server, dial, nil
}

// advertised is the address at which others find a door.
func advertised(given, listening string) (string, error) {
	if given != "" {
		if _, port, err := net.SplitHostPort(given); err != nil || port == "" {
			return "", fmt.Errorf("%q is not host:port", given)
		}
		return given, nil
	}
	host, port, err := net.SplitHostPort(listening)
	if err != nil {
		return "", fmt.Errorf("read %q: %w", listening, err)
	}
	if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
		return listening, nil
	}
	own, err := ownIP()
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(own, port), nil
}

// ownIP is this host's address, or a pod's: the first that is reachable from
// outside, IPv4 first.
func ownIP() (string, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "", fmt.Errorf("find this host's address: %w", err)
	}
	var six string
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		switch {
		case !ok || !n.IP.IsGlobalUnicast():
		case n.IP.To4() != nil:
			return n.IP.String(), nil
		case six == "":
			six = n.IP.String()
		}
	}
	if six == "" {
		return "", errors.New("this host has no address that others could reach; give one")
	}
	return six, nil
}

// publicDoor is the door for backends, in two forms: gRPC, and REST, which
// calls the same server in memory.
func (p *Process) publicDoor(env Env, services []public) (http.Handler, error) {
	if len(services) == 0 {
		return httpd.NewGateway(nil)
	}
	tcp, err := p.listen(env, "grpc.listen", p.cfg.GRPC.Listen)
	if err != nil {
		return nil, err
	}
	p.addrs.GRPC = tcp.Addr().String()
	local := p.memory()
	server := rpc.NewServer(rpc.ServerConfig{
		Grace: p.cfg.DrainTimeout / 8, Reflection: p.cfg.Dev, Ready: p.publicReady,
		Logger: p.logger.With(slog.String("door", "grpc")),
	}, tcp, local)
	var names []string
	for _, s := range services {
		s.register(server)
		names = append(names, s.names...)
	}
	p.add("gRPC door", server)
	pool := rpc.NewPool(func(ctx context.Context, _ string) (net.Conn, error) { return local.DialContext(ctx) },
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32))) // it is in this memory already
	p.conns = append(p.conns, pool)
	conn, err := pool.Conn(inProcess)
	if err != nil {
		return nil, err
	}
	return httpd.NewGateway(conn, names...)
}

// publicReady says why backends should go elsewhere.
func (p *Process) publicReady() error {
	for name, err := range p.Ready() {
		if err != nil && name != edgeName {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (p *Process) internalDoor(env Env, gateway http.Handler) (*httpd.Server, error) {
	l, err := p.listen(env, "internal.listen", p.cfg.Internal.Listen)
	if err != nil {
		return nil, err
	}
	p.addrs.Internal = l.Addr().String()
	handler := httpd.Internal(httpd.InternalConfig{
		Gateway: gateway, Metrics: env.Metrics, Ready: p.Ready, RefusePages: p.cfg.Dev,
	})
	return httpd.NewServer(httpd.ServerConfig{
		Grace: time.Second, Logger: p.logger.With(slog.String("door", "internal")),
	}, handler, l), nil
}
