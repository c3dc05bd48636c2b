// Package config is what can be configured: one tree of keys that is flags,
// environment variables and a YAML file at once.
//
//  1. A key is a flag (--edge.poll-timeout=30s), a variable
//     (COMET_EDGE_POLL_TIMEOUT=30s) and a path in the file (edge: poll-timeout:
//     30s). The flag wins over the variable, the variable over the file, the
//     file over the default.
//  2. A key that does not exist is an error that names the nearest one that
//     does; a bad value is an error that says where it stands and what is
//     allowed.
//  3. Every default works.
package config

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/comet-push/comet/internal/namespace"
)

// The targets: which services a process runs.
const (
	All      = "all"
	Edge     = "edge"
	Broker   = "broker"
	Presence = "presence"
)

// Config is all of it.
type Config struct {
	// Dev is not a key: comet dev sets it, comet serve does not.
	Dev bool

	Target       string
	File         string
	DrainTimeout time.Duration
	Zone         string
	Log          Log
	Node         Node
	Edge         EdgeConfig
	GRPC         Listen
	Internal     Listen
	Etcd         Etcd
	Presence     PresenceConfig
	Broker       BrokerConfig
	// Namespaces can be given in the file only.
	Namespaces []namespace.Options
}

// Log says what is logged, and how.
type Log struct{ Format, Level string }

// Listen is a door.
type Listen struct{ Listen string }

// Node is what other nodes know of this one.
type Node struct{ Name, Listen, Advertise string }

// Etcd says where the directory is; no endpoints: in memory.
type Etcd struct {
	Endpoints []string
	Prefix    string
	LeaseTTL  time.Duration
}

// EdgeConfig is the public door and the sessions behind it.
type EdgeConfig struct {
	Listen         string
	PollTimeout    time.Duration
	MaxInterval    time.Duration
	AllowedOrigins []string
	Piggyback      bool
	// Heartbeat is after how long without a frame a stream gets one.
	Heartbeat time.Duration
	// JSONP lets script tags read and send.
	JSONP bool
	// FrameMaxBytes is how much a frame holds before it is loaded anew.
	FrameMaxBytes Size
	H2C           bool
	TLSCertFile   string
	TLSKeyFile    string
	MaxSessions   int
	SessionRate   int
	BindCookie    bool
	AckExact      string
	ResumeRate    int
	// BrowserConnects bounds the connects held for one browser; -1: no bound.
	BrowserConnects int
	QueueMessages   int
	QueueBytes      Size
	// FollowCopies lets slots be followed at copies that are in sync.
	FollowCopies bool
}

// What sessions with the ack extension survive without seeing a message twice.
const (
	// AckExactKill: moves, drains and the loss of their edge.
	AckExactKill = "kill"
	// AckExactHandover: moves and drains.
	AckExactHandover = "handover"
)

// BrokerConfig says what a broker keeps, and how many others keep it, too.
type BrokerConfig struct {
	AnyPattern bool
	SlotBytes  Size
	// Replicas is how many copies of a slot there should be, MinInSync how many
	// must hold a message before it is acknowledged.
	Replicas, MinInSync int
	// UncleanAfter is after how much silence of its last copy a slot starts
	// anew. With a DataDir Load makes it never, unless it is given.
	UncleanAfter OrNever
	// DataDir is where slots are kept, too; empty: in memory only. Sync is
	// SyncCommit or SyncInterval, then every SyncInterval.
	DataDir      string
	Sync         string
	SyncInterval time.Duration
}

// When what a broker writes to its data directory is synced.
const (
	// SyncCommit: before it is acknowledged.
	SyncCommit = "commit"
	// SyncInterval: from time to time.
	SyncInterval = "interval"
)

// PresenceConfig says how long presence believes an edge that fell silent, and
// how many sessions it remembers.
type PresenceConfig struct {
	Grace       time.Duration
	MaxSessions int
}

// Dev returns the defaults of comet dev: everything in one process, open, on
// loopback.
func Dev() Config {
	c := Serve()
	c.Dev = true
	c.Log.Format = "text"
	c.Edge.Listen, c.GRPC.Listen, c.Internal.Listen, c.Node.Listen = "127.0.0.1:8080", "127.0.0.1:9090", "127.0.0.1:8081", ""
	c.Edge.JSONP = true
	c.Edge.BrowserConnects = 4 // the demo page is meant to be opened twice
	c.Broker.AnyPattern = true
	c.DrainTimeout = 5 * time.Second
	return c
}

// Serve returns the defaults of comet serve: closed, on all addresses.
func Serve() Config {
	name, err := os.Hostname()
	if err != nil {
		name = "comet"
	}
	return Config{
		Target:       All,
		DrainTimeout: 25 * time.Second,
		Log:          Log{Format: "json", Level: "info"},
		Node:         Node{Name: name, Listen: ":7070"},
		Edge: EdgeConfig{
			Listen: ":8080", PollTimeout: 30 * time.Second, MaxInterval: 10 * time.Second,
			Heartbeat: 25 * time.Second, FrameMaxBytes: 1 << 20,
			MaxSessions: 100_000, SessionRate: 5_000, AckExact: AckExactKill, ResumeRate: 10_000, BrowserConnects: 1, QueueMessages: 1000, QueueBytes: 1 << 20,
		},
		GRPC:     Listen{":9090"},
		Internal: Listen{":8081"},
		Etcd:     Etcd{Prefix: "/comet", LeaseTTL: 3 * time.Second},
		Presence: PresenceConfig{Grace: time.Minute, MaxSessions: 2_000_000},
		Broker: BrokerConfig{
			SlotBytes: 4 << 20, Replicas: 2, MinInSync: 1, UncleanAfter: OrNever(30 * time.Second),
			Sync: SyncCommit, SyncInterval: 100 * time.Millisecond,
		},
	}
}

// Bind makes every key a flag, with the present value as its default.
func (c *Config) Bind(fs *pflag.FlagSet) {
	fs.SortFlags = false
	fs.StringVar(&c.Target, "target", c.Target, "the services of this process: all, edge, broker or presence")
	fs.StringVar(&c.File, "config", c.File, "a YAML file with these keys and namespaces")
	fs.DurationVar(&c.DrainTimeout, "drain-timeout", c.DrainTimeout, "how long SIGTERM lets work go on")
	fs.StringVar(&c.Zone, "zone", c.Zone, "the failure domain this process runs in")
	fs.StringVar(&c.Log.Format, "log.format", c.Log.Format, "text or json")
	fs.StringVar(&c.Log.Level, "log.level", c.Log.Level, "debug, info, warn or error")

	fs.StringVar(&c.Edge.Listen, "edge.listen", c.Edge.Listen, "address for browsers")
	fs.DurationVar(&c.Edge.PollTimeout, "edge.poll-timeout", c.Edge.PollTimeout, "how long a request without news is held")
	fs.DurationVar(&c.Edge.MaxInterval, "edge.max-interval", c.Edge.MaxInterval, "how long a session lives without a connect")
	fs.StringSliceVar(&c.Edge.AllowedOrigins, "edge.allowed-origins", c.Edge.AllowedOrigins,
		"origins of pages that may connect, as https://example.com; always allowed: the door's own (dev: and loopback)")
	fs.BoolVar(&c.Edge.Piggyback, "edge.piggyback", c.Edge.Piggyback, "send long-polling clients events with every answer, not only with those to connects")
	fs.DurationVar(&c.Edge.Heartbeat, "edge.heartbeat", c.Edge.Heartbeat, "after how long without a frame streams and WebSockets get one; whole seconds")
	fs.BoolVar(&c.Edge.JSONP, "edge.jsonp", c.Edge.JSONP, "let script tags read and send (callback-polling, jsonp)")
	fs.Var(&c.Edge.FrameMaxBytes, "edge.frame-max-bytes", "how many bytes a forever-frame takes before it is loaded anew")
	fs.BoolVar(&c.Edge.H2C, "edge.h2c", c.Edge.H2C, "allow HTTP/2 without TLS")
	fs.StringVar(&c.Edge.TLSCertFile, "edge.tls-cert-file", c.Edge.TLSCertFile, "PEM file that turns TLS on")
	fs.StringVar(&c.Edge.TLSKeyFile, "edge.tls-key-file", c.Edge.TLSKeyFile, "PEM file with the key of it")
	fs.IntVar(&c.Edge.MaxSessions, "edge.max-sessions", c.Edge.MaxSessions, "how many sessions an edge takes")
	fs.BoolVar(&c.Edge.BindCookie, "edge.bind-cookie", c.Edge.BindCookie, "refuse a clientId that comes without the browser cookie of its handshake")
	fs.StringVar(&c.Edge.AckExact, "edge.ack-exact", c.Edge.AckExact,
		"what sessions with the ack extension survive without seeing a message twice: kill (also the loss of their edge) or handover")
	fs.IntVar(&c.Edge.SessionRate, "edge.session-rate", c.Edge.SessionRate, "how many sessions and readers may begin in a second")
	fs.IntVar(&c.Edge.ResumeRate, "edge.resume-rate", c.Edge.ResumeRate, "how many readers may go on where they were in a second")
	fs.IntVar(&c.Edge.BrowserConnects, "edge.browser-connects", c.Edge.BrowserConnects,
		"how many connects are held for one browser on HTTP/1.1, which opens six connections at most; -1: no bound")
	fs.IntVar(&c.Edge.QueueMessages, "edge.queue-messages", c.Edge.QueueMessages, "how many events may wait for a session")
	fs.Var(&c.Edge.QueueBytes, "edge.queue-bytes", "how many bytes of events may wait for a session")
	fs.BoolVar(&c.Edge.FollowCopies, "edge.follow-copies", c.Edge.FollowCopies,
		"take messages from any broker with an in-sync copy, of the same zone if there is one, and not only from the primary")

	fs.StringVar(&c.GRPC.Listen, "grpc.listen", c.GRPC.Listen, "address for backends")
	fs.StringVar(&c.Internal.Listen, "internal.listen", c.Internal.Listen, "address for REST, metrics and health")
	fs.StringVar(&c.Node.Name, "node.name", c.Node.Name, "name of this process, the same after a restart")
	fs.StringVar(&c.Node.Listen, "node.listen", c.Node.Listen, "address for other nodes; not opened without etcd")
	fs.StringVar(&c.Node.Advertise, "node.advertise", c.Node.Advertise, "address at which other nodes find it (default: this host's, with the port of node.listen)")
	fs.StringSliceVar(&c.Etcd.Endpoints, "etcd.endpoints", c.Etcd.Endpoints, "where etcd is, as http://etcd:2379; none: this process is alone")
	fs.StringVar(&c.Etcd.Prefix, "etcd.prefix", c.Etcd.Prefix, "what the keys in etcd begin with")
	fs.DurationVar(&c.Etcd.LeaseTTL, "etcd.lease-ttl", c.Etcd.LeaseTTL, "how long a process counts as alive without a sign of life; whole seconds")

	fs.BoolVar(&c.Broker.AnyPattern, "broker.any-pattern", c.Broker.AnyPattern, "let backends subscribe to patterns that fix no segment, as /**")
	fs.Var(&c.Broker.SlotBytes, "broker.slot-bytes", "how many bytes of history one of the 256 slots may keep")
	fs.IntVar(&c.Broker.Replicas, "broker.replicas", c.Broker.Replicas, "how many brokers hold each slot, if there are as many")
	fs.IntVar(&c.Broker.MinInSync, "broker.min-insync", c.Broker.MinInSync,
		"how many brokers must hold what is published; where there are fewer in sync publishes are refused")
	fs.Var(&c.Broker.UncleanAfter, "broker.unclean-after",
		"after how much silence of the only broker that may hold a slot it starts empty elsewhere, if replicas is above 1; or never, which is the default with broker.data-dir")
	fs.StringVar(&c.Broker.DataDir, "broker.data-dir", c.Broker.DataDir, "directory in which a broker keeps its slots, too; none: in memory only")
	fs.StringVar(&c.Broker.Sync, "broker.sync", c.Broker.Sync, "when that is synced: commit (before a publish is acknowledged) or interval")
	fs.DurationVar(&c.Broker.SyncInterval, "broker.sync-interval", c.Broker.SyncInterval, "how often it is with broker.sync=interval")
	fs.DurationVar(&c.Presence.Grace, "presence.grace", c.Presence.Grace, "how long the sessions of a lost edge can go on elsewhere, at least")
	fs.IntVar(&c.Presence.MaxSessions, "presence.max-sessions", c.Presence.MaxSessions, "how many sessions presence remembers")
}

// Validate checks what single keys cannot.
func (c *Config) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	targets := []string{All, Edge, Broker, Presence}
	if !slices.Contains(targets, c.Target) {
		fail("target: %q is not one of %s", c.Target, strings.Join(targets, ", "))
	}
	if c.Target != All && len(c.Etcd.Endpoints) == 0 {
		fail("etcd.endpoints: target %s meets the other services through etcd; name its endpoints, or use target all", c.Target)
	}
	if c.Node.Name == "" || strings.ContainsAny(c.Node.Name, "@/ \t\n") || len(c.Node.Name) > 128 {
		fail("node.name: %q is not a name: 1 to 128 characters without @, / and spaces", c.Node.Name)
	}
	for _, d := range []struct {
		key       string
		v         time.Duration
		low, high time.Duration
	}{
		{"drain-timeout", c.DrainTimeout, 0, time.Hour},
		{"edge.poll-timeout", c.Edge.PollTimeout, time.Second, 10 * time.Minute},
		{"edge.max-interval", c.Edge.MaxInterval, time.Second, time.Hour},
		{"edge.heartbeat", c.Edge.Heartbeat, time.Second, 10 * time.Minute},
		{"etcd.lease-ttl", c.Etcd.LeaseTTL, time.Second, time.Minute},
		{"presence.grace", c.Presence.Grace, 0, time.Hour},
		{"broker.unclean-after", time.Duration(c.Broker.UncleanAfter), 0, 24 * time.Hour},
		{"broker.sync-interval", c.Broker.SyncInterval, time.Millisecond, 10 * time.Second},
	} {
		if d.v < d.low || d.v > d.high {
			fail("%s: %v is not between %v and %v", d.key, d.v, d.low, d.high)
		}
	}
	for _, n := range []struct {
		key       string
		v         int
		low, high int
	}{
		{"edge.queue-messages", c.Edge.QueueMessages, 1, 1_000_000},
		{"edge.queue-bytes", int(c.Edge.QueueBytes), 1 << 10, 1 << 30},
		{"edge.frame-max-bytes", int(c.Edge.FrameMaxBytes), 64 << 10, 1 << 30},
		{"edge.max-sessions", c.Edge.MaxSessions, 1, 100_000_000},
		{"edge.session-rate", c.Edge.SessionRate, 1, 1_000_000},
		{"edge.resume-rate", c.Edge.ResumeRate, 1, 1_000_000},
		{"edge.browser-connects", c.Edge.BrowserConnects, -1, 1000},
		{"presence.max-sessions", c.Presence.MaxSessions, 1, 100_000_000},
		{"broker.slot-bytes", int(c.Broker.SlotBytes), 1 << 20, 1 << 40},
		{"broker.replicas", c.Broker.Replicas, 1, 7},
		{"broker.min-insync", c.Broker.MinInSync, 1, c.Broker.Replicas},
	} {
		if n.v < n.low || n.v > n.high {
			fail("%s: %d is not between %d and %d", n.key, n.v, n.low, n.high)
		}
	}
	errs = append(errs, c.Broker.validate(c.Etcd))
	errs = append(errs, c.Edge.validate())
	return errors.Join(errs...)
}

func (e *EdgeConfig) validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if e.Heartbeat%time.Second != 0 {
		fail("edge.heartbeat: %v is not whole seconds", e.Heartbeat)
	}
	if e.AckExact != AckExactKill && e.AckExact != AckExactHandover {
		fail("edge.ack-exact: %q is not one of %s, %s", e.AckExact, AckExactKill, AckExactHandover)
	}
	if (e.TLSCertFile == "") != (e.TLSKeyFile == "") {
		fail("edge.tls-cert-file, edge.tls-key-file: give both or none")
	}
	return errors.Join(errs...)
}

func (b *BrokerConfig) validate(e Etcd) error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if after := time.Duration(b.UncleanAfter); after > 0 && after < 4*e.LeaseTTL {
		fail("broker.unclean-after: %v is less than four times etcd.lease-ttl, %v: a broker that only missed a renewal would be given up",
			after, e.LeaseTTL)
	}
	if b.DataDir != "" && len(e.Endpoints) == 0 {
		fail("broker.data-dir: who holds what is written down in etcd; name its endpoints with etcd.endpoints, or leave broker.data-dir out")
	}
	if b.Sync != SyncCommit && b.Sync != SyncInterval {
		fail("broker.sync: %q is not one of %s, %s", b.Sync, SyncCommit, SyncInterval)
	}
	return errors.Join(errs...)
}
