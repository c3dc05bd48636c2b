package wire

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/comet-push/comet/internal/config"
	"github.com/comet-push/comet/internal/httpd"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/namespace"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/services/broker"
	"github.com/comet-push/comet/services/edge"
	"github.com/comet-push/comet/services/presence"
)

// The services' names in logs and readiness reports.
const (
	edgeName     = "edge"
	brokerName   = "broker"
	presenceName = "presence"
)

// deps is what services work with.
type deps struct {
	node       membership.Node
	directory  membership.Directory
	conns      *rpc.Pool
	namespaces *namespace.Set
	dial       dialer
	metrics    prometheus.Registerer
	logger     *slog.Logger
	pace       time.Duration
}

// public is a service that backends call.
type public struct {
	names    []string // of what it registers
	register func(grpc.ServiceRegistrar)
}

func targetsOf(target string) ([]membership.Role, error) {
	switch target {
	case config.All:
		return []membership.Role{membership.Presence, membership.Broker, membership.Edge}, nil
	case config.Edge, config.Broker, config.Presence:
		return []membership.Role{membership.Role(target)}, nil
	}
	return nil, fmt.Errorf("target: %q is not one of all, edge, broker, presence", target)
}

// addServices adds the services of the targets behind their doors.
func (p *Process) addServices(env Env, targets []membership.Role, d deps, node grpc.ServiceRegistrar) (http.Handler, error) {
	var doors []public
	if slices.Contains(targets, membership.Presence) {
		s, err := p.presence(d)
		if err != nil {
			return nil, fmt.Errorf("presence: %w", err)
		}
		s.RegisterNode(node)
		p.addService(presenceName, s)
		doors = append(doors, public{[]string{httpd.Presence}, s.RegisterPublic})
	}
	if slices.Contains(targets, membership.Broker) {
		s, err := p.broker(d)
		if err != nil {
			return nil, fmt.Errorf("broker: %w", err)
		}
		s.RegisterNode(node)
		p.addService(brokerName, s)
		p.waits = s.Loaded()
		doors = append(doors, public{[]string{httpd.PubSub, httpd.Admin}, s.RegisterPublic})
	}
	return p.publicDoor(env, doors)
}

func (p *Process) addService(name string, s service) {
	p.services[name] = s
	p.add(name, s)
}

// addEdge adds the edge after its door, which is open while the edge takes leave
// of its sessions, and that after the connections, which may outlive it.
func (p *Process) addEdge(env Env, d deps, node grpc.ServiceRegistrar) error {
	s, err := edge.New(edge.Config{
		PollTimeout:     p.cfg.Edge.PollTimeout,
		MaxInterval:     p.cfg.Edge.MaxInterval,
		Piggyback:       p.cfg.Edge.Piggyback,
		AllowedOrigins:  p.cfg.Edge.AllowedOrigins,
		Dev:             p.cfg.Dev,
		PublishURL:      p.publishURL(),
		Heartbeat:       p.cfg.Edge.Heartbeat,
		JSONP:           p.cfg.Edge.JSONP,
		FrameMaxBytes:   int(p.cfg.Edge.FrameMaxBytes),
		MaxSessions:     p.cfg.Edge.MaxSessions,
		SessionRate:     p.cfg.Edge.SessionRate,
		BindCookie:      p.cfg.Edge.BindCookie,
		AckExact:        p.cfg.Edge.AckExact,
		ResumeRate:      p.cfg.Edge.ResumeRate,
		BrowserConnects: p.cfg.Edge.BrowserConnects,
		QueueMessages:   p.cfg.Edge.QueueMessages,
		QueueBytes:      int(p.cfg.Edge.QueueBytes),
		DrainTimeout:    p.cfg.DrainTimeout / 2,
		BrokerHeartbeat: d.pace,
		FollowCopies:    p.cfg.Edge.FollowCopies,
	}, edge.Deps{
		Node: d.node, Announcement: p.announcement, Directory: d.directory, Conns: d.conns, Namespaces: d.namespaces,
		Registerer: d.metrics, Logger: d.logger.With(slog.String("service", edgeName)),
	})
	if err != nil {
		return fmt.Errorf("edge: %w", err)
	}
	s.RegisterNode(node)
	l, err := p.listen(env, "edge.listen", p.cfg.Edge.Listen)
	if err != nil {
		return err
	}
	p.addrs.Edge = l.Addr().String()
	if p.cfg.Edge.TLSCertFile == "" {
		l = s.Listen(l)
	}
	p.add("edge connections", s.Connections())
	p.add("edge door", httpd.NewServer(httpd.ServerConfig{
		Grace:       p.cfg.DrainTimeout / 8,
		TLSCertFile: p.cfg.Edge.TLSCertFile, TLSKeyFile: p.cfg.Edge.TLSKeyFile,
		H2C:         p.cfg.Edge.H2C,
		ConnContext: s.ConnContext, ConnState: s.ConnState,
		Logger: d.logger.With(slog.String("door", edgeName)),
	}, s.Handler(), l))
	p.addService(edgeName, s)
	return nil
}

// publishURL is where the demo page says to publish.
func (p *Process) publishURL() string {
	if !p.cfg.Dev {
		return ""
	}
	return "http://" + p.addrs.Internal + "/v1/publish"
}

func (p *Process) presence(d deps) (*presence.Service, error) {
	hook := presence.Webhook{URL: p.cfg.Presence.Webhook, Dial: d.dial}
	if hook.URL != "" {
		var err error
		if hook.Secrets, err = os.ReadFile(p.cfg.Presence.WebhookSecretFile); err != nil {
			return nil, fmt.Errorf("presence.webhook-secret-file: %w", err)
		}
	}
	return presence.New(presence.Config{
		Grace:           p.cfg.Presence.Grace,
		MaxSessions:     p.cfg.Presence.MaxSessions,
		NoEvents:        !p.cfg.Presence.Events,
		Webhook:         hook,
		BrokerHeartbeat: d.pace,
	}, presence.Deps{
		Node: d.node, Directory: d.directory, Conns: d.conns, Namespaces: d.namespaces,
		Registerer: d.metrics, Logger: d.logger.With(slog.String("service", presenceName)),
	})
}

// openDisk opens the data directory of a broker, if it is to have one.
func (p *Process) openDisk(env Env, targets []membership.Role) (err error) {
	b := p.cfg.Broker
	if b.DataDir == "" || !slices.Contains(targets, membership.Broker) {
		return nil
	}
	p.disk, err = broker.OpenDisk(broker.DiskConfig{
		Dir: b.DataDir, Interval: b.Sync == config.SyncInterval, SyncEvery: b.SyncInterval,
		Registerer: env.Metrics, Logger: env.Logger.With(slog.String("service", brokerName)),
	})
	if err != nil {
		return fmt.Errorf("broker.data-dir: %w", err)
	}
	return nil
}

// loaded waits until the broker has its data; false if ctx ends first.
func (p *Process) loaded(ctx context.Context) bool {
	if p.waits == nil {
		return true
	}
	select {
	case <-p.waits:
		return true
	case <-ctx.Done():
		return false
	}
}

func (p *Process) broker(d deps) (*broker.Service, error) {
	return broker.New(broker.Config{
		AnyPattern:   p.cfg.Broker.AnyPattern,
		SlotBytes:    int(p.cfg.Broker.SlotBytes),
		DrainTimeout: p.cfg.DrainTimeout / 2, LastCopyTimeout: p.cfg.DrainTimeout * 3 / 4,
		Lease:        p.cfg.Etcd.LeaseTTL,
		Dial:         d.dial,
		Heartbeat:    d.pace,
		SweepEvery:   d.pace,
		Replicas:     p.cfg.Broker.Replicas,
		MinInSync:    p.cfg.Broker.MinInSync,
		UncleanAfter: cmp.Or(time.Duration(p.cfg.Broker.UncleanAfter), -1),
	}, broker.Deps{
		Node: d.node, Announcement: p.announcement, Disk: p.disk,
		Directory: d.directory, Conns: d.conns, Namespaces: d.namespaces,
		Registerer: d.metrics, Logger: d.logger.With(slog.String("service", brokerName)),
	})
}
