package hold

import (
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Engine holds exchanges, streams and WebSockets as data: a connection that it
// accepted and that waits for something has no goroutine, buffer or timer. What
// was accepted by other listeners, TLS and HTTP/2 are held by [Waiting].
//
// Requests are parsed and served by net/http, to which a connection goes when
// there is something to read on it, and which it leaves behind the answer. Those
// that Direct names are served without its server if they are plain and whole.
type Engine struct {
	Waiting

	cfg     Config // static, as are the next four
	started time.Time
	tick    time.Duration // between sweeps; limits are multiples of it
	workers []*worker
	heads   *heads

	streamFields, exchangeFields map[string]bool // not the handler's; static

	counts [states]atomic.Int64
	some   chan struct{} // of one: there is a connection

	mu    sync.Mutex // leaf
	doors []*door    // guarded by mu
}

var (
	_ Holder   = (*Engine)(nil)
	_ Streamer = (*Engine)(nil)
)

// NewEngine returns an engine, which serves once it runs.
func NewEngine(cfg Config) *Engine {
	const least, most, sweeps = 1, 8, 4
	cfg = cfg.withDefaults()
	e := &Engine{
		Waiting: cfg.waiting(), cfg: cfg, started: time.Now(), heads: newHeads(), some: make(chan struct{}, 1),
		tick: min(time.Second, min(cfg.WriteTimeout, cfg.HeaderTimeout, cfg.IdleTimeout)/sweeps),
	}
	e.streamFields, e.exchangeFields = byEngine()
	for range min(max(runtime.GOMAXPROCS(0), least), most) {
		e.workers = append(e.workers, newWorker(e))
	}
	return e
}

// Listen returns the listener to serve instead of l: one of the engine, if l is
// a TCP listener. It is called before Run.
func (e *Engine) Listen(l net.Listener) net.Listener {
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return l
	}
	d, err := newDoor(e, tcp)
	if err != nil {
		e.cfg.Failed(err)
		return l
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.doors = append(e.doors, d)
	return d
}

type leaseKey struct{}

// ConnContext is for [http.Server]: requests carry their connection.
func (e *Engine) ConnContext(ctx context.Context, c net.Conn) context.Context {
	if l, ok := c.(*lease); ok {
		return context.WithValue(ctx, leaseKey{}, l)
	}
	return ctx
}

// ConnState is for [http.Server]: it tells when a connection rests.
func (e *Engine) ConnState(c net.Conn, s http.ConnState) {
	if l, ok := c.(*lease); ok && s == http.StateIdle {
		l.conn.mu.Lock()
		defer l.conn.mu.Unlock()
		l.resting = true
		l.head, l.scan = 0, over // were of the request before
	}
}

// Counts counts the engine's connections.
func (e *Engine) Counts() Counts {
	n := func(s state) int { return int(e.counts[s].Load()) }
	return Counts{Idle: n(idle), Serving: n(serving), Exchanges: n(exchange), Streams: n(streaming), Sockets: n(upgraded)}
}

// Run serves until ctx ends. Then no connection is accepted any more, and those
// without a request are closed; if it drains, the owners of what is parked are
// asked to end it over a short time. What is left after that is cut. When Run
// returns all owners have been told.
func (e *Engine) Run(ctx context.Context) error {
	e.mu.Lock()
	doors := slices.Clone(e.doors)
	e.mu.Unlock()
	if len(doors) == 0 {
		<-ctx.Done()
		return nil
	}
	own, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	accepting, reject := context.WithCancel(own)
	defer reject()
	var goroutines, acceptors sync.WaitGroup
	ended := make(chan error, len(e.workers)+len(doors))
	err := e.work(&goroutines, ended)
	if err == nil {
		for _, d := range doors {
			acceptors.Go(func() {
				if err := d.accept(accepting); err != nil {
					ended <- err
				}
			})
		}
		goroutines.Go(func() { e.sweep(own) })
		select {
		case err = <-ended:
		case <-ctx.Done():
		}
	}
	reject()
	acceptors.Wait() // so that no connection is missed
	if err == nil {
		e.leave(ctx)
	}
	stop()
	e.stop()
	goroutines.Wait()
	return err
}

// work starts the workers.
func (e *Engine) work(goroutines *sync.WaitGroup, ended chan<- error) error {
	for _, w := range e.workers {
		if err := w.open(); err != nil {
			return err
		}
		goroutines.Go(func() {
			if err := w.poll(); err != nil {
				ended <- err
			}
		})
		goroutines.Go(w.flush)
	}
	return nil
}

// leave closes what waits for nothing, and drains.
func (e *Engine) leave(ctx context.Context) {
	parked := func() (all []*conn) {
		for _, c := range e.all() {
			c.mu.Lock()
			switch c.state {
			case idle:
				c.closeLocked()
			case exchange, streaming, upgraded:
				all = append(all, c)
			}
			c.mu.Unlock()
		}
		return all
	}
	all := parked()
	if !draining(ctx) || len(all) == 0 {
		return
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	const step = 10 * time.Millisecond
	tick := time.NewTicker(step)
	defer tick.Stop()
	start := time.Now()
	asked := 0
	for len(parked()) > 0 && time.Since(start) < e.cfg.DrainWindow+e.cfg.WriteTimeout {
		due := len(all)
		if past := time.Since(start); past < e.cfg.DrainWindow {
			due = int(int64(len(all)) * int64(past) / int64(e.cfg.DrainWindow))
		}
		for ; asked < due; asked++ {
			all[asked].drain()
		}
		<-tick.C
	}
}

// stop cuts all connections and ends the workers.
func (e *Engine) stop() {
	for _, c := range e.all() {
		c.mu.Lock()
		end := c.closeLocked()
		c.mu.Unlock()
		end.tell()
	}
	for _, w := range e.workers {
		w.stop()
	}
}

// all returns all connections.
func (e *Engine) all() []*conn {
	var all []*conn
	for _, w := range e.workers {
		all = append(all, w.all(func(*conn) bool { return true })...)
	}
	return all
}

func (e *Engine) worker(fd int) *worker { return e.workers[fd%len(e.workers)] }

// now is the tick it is, and in the one in which a time from now has passed.
func (e *Engine) now() uint32 { return uint32(time.Since(e.started)/e.tick) + 1 }

func (e *Engine) in(d time.Duration) uint32 { return e.now() + uint32((d+e.tick-1)/e.tick) + 1 }

// occupied says that there is a connection.
func (e *Engine) occupied() {
	select {
	case e.some <- struct{}{}:
	default:
	}
}

// sweep ends connections whose limits have passed, once in a tick, as long as
// there are connections.
func (e *Engine) sweep(ctx context.Context) {
	tick := time.NewTicker(e.tick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := e.now()
		for _, w := range e.workers {
			for _, c := range w.all(func(c *conn) bool { return c.due(now) }) {
				c.expire(now)
			}
		}
		if e.empty() {
			tick.Stop()
			select {
			case <-ctx.Done():
				return
			case <-e.some:
				tick.Reset(e.tick)
			}
		}
	}
}

func (e *Engine) empty() bool {
	for s := range closed {
		if e.counts[s].Load() > 0 {
			return false
		}
	}
	return true
}
