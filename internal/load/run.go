package load

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// look is how often the state of a run is looked at.
	look = 20 * time.Millisecond
	// drained is the longest that is waited for messages under way.
	drained = 10 * time.Second
	// enough is the share of clients without which nothing is measured.
	enough = 0.95
)

// Run measures. Meanwhile it calls status, several times a second, with a line
// that says how far it is. The result is of use also beside an error, if it is
// not nil: the run then found the server at fault.
func Run(ctx context.Context, cfg Config, status func(string)) (*Result, error) {
	cfg = cfg.complete()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	r, err := newRunner(ctx, cfg, status)
	if err != nil {
		return nil, err
	}
	if err := r.makeWorkers(newWorker); err != nil {
		return nil, err
	}
	return r.run(ctx)
}

// errInterrupted is the end of a run by its context.
var errInterrupted = errors.New("interrupted before there was a result")

func (r *runner) run(ctx context.Context) (*Result, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	work, workCtx := errgroup.WithContext(ctx)
	for _, w := range r.workers {
		work.Go(func() error { return w.run(workCtx) })
	}
	err := r.measure(workCtx)
	interrupted := ctx.Err() != nil
	stop()
	r.publishers.close()
	if failed := work.Wait(); failed != nil {
		return nil, failed
	}
	if interrupted {
		return nil, errInterrupted
	}
	if err != nil && !errors.As(err, new(*serverFault)) {
		return nil, err
	}
	return r.finish(), err
}

// serverFault is a fault of the server that a whole run has found.
type serverFault struct{ text string }

func (f *serverFault) Error() string { return f.text }

// runner is one run.
type runner struct {
	cfg        Config
	status     func(string)
	start      time.Time
	clients    []*client
	workers    []worker
	publishers *publishers
	result     Result

	target target
	door   *door

	// settle is the pause between connecting and what follows, still how long
	// nothing may arrive before what is missing counts as lost.
	settle, still time.Duration

	pssBefore int64
}

func (r *runner) clock() time.Duration { return time.Since(r.start) }

func newRunner(ctx context.Context, cfg Config, status func(string)) (*runner, error) {
	edge, err := resolve(ctx, "--url", cfg.URL, cfg.Remote)
	if err != nil {
		return nil, err
	}
	restURL, err := cfg.rest()
	if err != nil {
		return nil, err
	}
	rest, err := resolve(ctx, "--rest", restURL, cfg.Remote)
	if err != nil {
		return nil, err
	}
	if cfg.PublishEdge {
		rest = edge
	}
	if err := openFiles(cfg.Clients + cfg.Publishers + 100); err != nil {
		return nil, err
	}
	if !edge.addr.Addr().IsLoopback() || edge.addr.Addr().Is6() {
		cfg.Sources = 0
	}
	r := &runner{cfg: cfg, status: status, start: time.Now(), settle: time.Second, still: max(2*time.Second, 2*cfg.PollEvery)}
	id := strings.ToLower(rand.Text()[:8])
	r.door = &door{
		host: edge.host, path: edge.path, transport: cfg.Transport,
		prefix: cfg.Prefix + "/" + id, pollEvery: cfg.PollEvery,
	}
	r.target = target{
		addr: edge.addr, tls: edge.tls(), sources: cfg.Sources,
		opening: max(1, cfg.Opening/min(cfg.Workers, cfg.Clients)), clock: r.clock,
	}
	r.publishers = newPublishers(publishers{
		door: r.door, run: id, edge: cfg.PublishEdge, host: rest.host, path: rest.path, addr: rest.addr,
		tls: rest.tls(), size: cfg.Size, clock: r.clock,
	}, cfg.Publishers, cfg.Channels)
	r.result = Result{
		Mode: cfg.Mode, Transport: cfg.Transport, URL: cfg.URL, At: r.start.UTC(),
		Clients: cfg.Clients, Channels: cfg.Channels, SizeBytes: cfg.Size,
	}
	return r, nil
}

func (e endpoint) tls() *tls.Config {
	if !e.secure {
		return nil
	}
	host := e.host
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		host = host[:i]
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, ServerName: strings.Trim(host, "[]")}
}

// makeWorkers makes the clients and shares them out.
func (r *runner) makeWorkers(build func(target, []*client, *tally) (worker, error)) error {
	n := min(r.cfg.Workers, r.cfg.Clients)
	r.clients = make([]*client, r.cfg.Clients)
	for i := range n {
		sum := newTally()
		var share []*client
		for number := i; number < r.cfg.Clients; number += n {
			c := &client{tally: &sum, number: number, channel: uint16(number % r.cfg.Channels)}
			c.session = newSession(r.door, c)
			r.clients[number] = c
			share = append(share, c)
		}
		w, err := build(r.target, share, &sum)
		if err != nil {
			return err
		}
		r.workers = append(r.workers, w)
	}
	return nil
}

// sum adds up what all workers have found so far, without histograms.
func (r *runner) sum() tally {
	all := tally{faults: map[string]int{}}
	for _, w := range r.workers {
		w.look(func(t *tally) { all.add(t) })
	}
	return all
}

// begin starts a phase of messages that are due from now on.
func (r *runner) begin() {
	from := r.clock()
	for _, w := range r.workers {
		w.look(func(t *tally) { t.begin(from) })
	}
}

// latency is that of the phase.
func (r *runner) latency() Latency {
	h := newHistogram()
	for _, w := range r.workers {
		w.look(func(t *tally) { h.Merge(t.latency) })
	}
	return latencyOf(h)
}

// subscribers counts those of each channel.
func (r *runner) subscribers() []int {
	counts := make([]int, r.cfg.Channels)
	for i, w := range r.workers {
		w.look(func(*tally) {
			for k := i; k < len(r.clients); k += len(r.workers) {
				if c := r.clients[k]; c.joined {
					counts[c.channel]++
				}
			}
		})
	}
	return counts
}

// finish completes the result.
func (r *runner) finish() *Result {
	sum := r.sum()
	r.result.Sessions.Established = sum.joined
	r.result.Sessions.Failed = sum.failed
	r.result.Sessions.Retries = sum.retries
	r.result.Sessions.Reconnects = sum.reconnects
	if d := r.result.Delivery; d != nil {
		d.Gaps, d.Repeats, d.Late = sum.gaps, sum.repeats, sum.late
		d.Strays, d.Resyncs = sum.strays, sum.resyncs
	}
	if r.result.Faults == nil {
		r.result.Faults = map[string]int{}
	}
	for text, n := range sum.faults {
		r.result.Faults[text] += n
	}
	return &r.result
}
