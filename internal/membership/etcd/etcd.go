// Package etcd keeps a cluster's membership in etcd.
//
// Keys, under one prefix:
//
//		nodes/<name>@<id>   a node as JSON, on the lease of its process
//		slots/<nnn>         a row as JSON, nnn from 000 to 255
//		presence/<nnn>      the holders of a presence shard as JSON, likewise
//		election/…          the candidates, oldest leads
//		cluster             the cluster's id
//
//	 1. A node key names the member, so that a write can compare its absence.
//	    Announcing a node deletes the older keys of its name in the same
//	    transaction, and is refused if there is a younger one: two processes of
//	    one name never take turns.
//	 2. What watchers see is the store at one revision, and later ones after it.
//	    Whenever that is in doubt (a read unanswered, a watch ended or behind)
//	    everything is listed anew. Only a store that lost its data goes back.
//	 3. Connected is true while linearizable reads are answered; it turns false
//	    two seconds into an outage at the latest.
//	 4. A row is written in one transaction that compares its revision, the
//	    absence and the presence of the members named, and the leader's key if
//	    it is the leader who writes. Those of several rows may be parts of one:
//	    each applies, or not, for itself.
//	 5. A renewal counts from before it was sent, and only if a read after it
//	    found the node announced on its lease.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"

	"github.com/comet-push/comet/internal/backoff"
	"github.com/comet-push/comet/internal/membership"
)

const (
	// callTimeout is how long one call to etcd may take.
	callTimeout = time.Second
	// retryEvery is the pause after a call that failed.
	retryEvery = 200 * time.Millisecond
	// probeEvery and callTimeout make an outage known within two seconds.
	probeEvery = 750 * time.Millisecond
)

// Config says where etcd is.
type Config struct {
	// Endpoints are etcd's client addresses: host:port, or as a URL.
	Endpoints []string
	// Prefix begins all keys; empty: /comet. One cluster has one prefix.
	Prefix string
	// Lease is how long a node stays announced without a sign of life, in
	// whole seconds; 0: [membership.DefaultLease].
	Lease time.Duration
	// Dial opens connections; nil: TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Logger gets outages and announcements; nil: none.
	Logger *slog.Logger
}

// Directory implements [membership.Directory] while its Run runs.
type Directory struct {
	client  *clientv3.Client
	batcher *batcher
	keys    keys
	lease   time.Duration
	log     *slog.Logger
	link    *link
	members *members
	views   membership.Latest
	// renewed is when the last renewal that succeeded began; nil: none did.
	renewed atomic.Pointer[time.Time]
}

// New returns a directory. It fails if an endpoint is no address; whether etcd
// answers there is for Run to find out.
func New(cfg Config) (*Directory, error) {
	if err := checkEndpoints(cfg.Endpoints); err != nil {
		return nil, err
	}
	if cfg.Lease == 0 {
		cfg.Lease = membership.DefaultLease
	}
	if cfg.Prefix == "" {
		cfg.Prefix = "/comet"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Dial == nil {
		cfg.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}
	}
	link := &link{log: cfg.Logger, endpoints: cfg.Endpoints, dial: cfg.Dial}
	all := newMembers(len(cfg.Endpoints), link.connect, cfg.Logger)
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   cfg.Endpoints,
		DialTimeout: callTimeout,
		// The timeout is also TCP's for data that is not acknowledged: a
		// connection into nowhere is given up after it.
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 2 * time.Second,
		BackoffWaitBetween: 50 * time.Millisecond,
		Logger:             zap.NewNop(),
		DialOptions: []grpc.DialOption{
			grpc.WithContextDialer(all.connect),
			grpc.WithChainUnaryInterceptor(all.unary),
			grpc.WithConnectParams(grpc.ConnectParams{
				// Not gRPC's two minutes: who comes back after etcd's
				// leases have ended is dead (CORRECTNESS rule 14).
				Backoff: grpcbackoff.Config{
					BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: .2, MaxDelay: 400 * time.Millisecond,
				},
				MinConnectTimeout: callTimeout,
			}),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("connect to etcd at %s: %w", strings.Join(cfg.Endpoints, ", "), err)
	}
	return &Directory{
		client: client, batcher: &batcher{client: client}, keys: keys(strings.TrimSuffix(cfg.Prefix, "/")),
		lease: cfg.Lease, log: cfg.Logger, link: link, members: all,
	}, nil
}

func checkEndpoints(endpoints []string) error {
	if len(endpoints) == 0 {
		return errors.New("no etcd endpoints: name one like http://etcd:2379")
	}
	for _, e := range endpoints {
		withScheme := e
		if !strings.Contains(e, "://") {
			withScheme = "http://" + e
		}
		u, err := url.Parse(withScheme)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Port() == "" || strings.Trim(u.Path, "/") != "" {
			return fmt.Errorf("etcd endpoint %q is no address: want one like http://etcd:2379", e)
		}
	}
	return nil
}

// Watch implements [membership.Directory].
func (d *Directory) Watch(ctx context.Context) <-chan membership.View { return d.views.Watch(ctx) }

// Renewed implements [membership.Directory].
func (d *Directory) Renewed() time.Time {
	if sent := d.renewed.Load(); sent != nil {
		return *sent
	}
	return time.Time{}
}

// Run follows etcd until ctx ends, then closes the connection: whoever uses
// the directory must have ended before.
func (d *Directory) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := d.follow(ctx); ctx.Err() == nil {
			d.link.failed(err)
			d.members.forgive()
			d.views.Disconnect()
			backoff.Pause(ctx, retryEvery)
		}
	}
	defer d.batcher.tasks.Wait()
	if err := d.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close etcd client: %w", err)
	}
	return nil
}

// seconds is the lease as etcd counts it.
func (d *Directory) seconds() int64 {
	return int64((d.lease + time.Second - 1) / time.Second)
}
