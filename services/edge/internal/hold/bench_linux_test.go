package hold

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/comet-push/comet/services/edge/internal/frame"
)

// The clients of benchmarks are another process, so that the CPU time of this
// one is the server's. What matters are ratios of figures of one run.
const benchClients = "COMET_BENCH_CLIENTS" // address, path and number

// TestMain runs the tests, or is the clients of a benchmark.
func TestMain(m *testing.M) {
	var addr, path string
	var n int
	if _, err := fmt.Sscan(os.Getenv(benchClients), &addr, &path, &n); err != nil {
		os.Exit(m.Run())
	}
	for range n {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		go askAgain(c, path)
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // until the benchmark is over
}

// askAgain reads what comes, and asks again behind every whole response.
func askAgain(c net.Conn, path string) {
	r := bufio.NewReaderSize(c, 1<<10)
	for {
		if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: test\r\n\r\n", path); err != nil {
			return
		}
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			return
		}
	}
}

// bench is a server and its clients.
type bench struct {
	b       *testing.B
	engine  *Engine
	streams chan *Stream
	polls   chan *Exchange
	served  atomic.Int64
}

type benchOwner struct{ *bench }

func (benchOwner) Writable(uint64)    {}
func (benchOwner) Ended(uint64, bool) {}
func (o benchOwner) Written(uint64)   { o.served.Add(1) }
func (benchOwner) Lost(uint64)        {}
func (benchOwner) Drain(uint64)       {}

var benchBody = []byte(strings.Repeat("x", 100))

func (benchOwner) Reply(Answer) Reply {
	return Reply{Status: http.StatusOK, Type: "application/json", Body: benchBody}
}

func (s *bench) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	switch r.URL.Path {
	case "/stream":
		h.Set("Content-Type", "text/event-stream")
		x := NewStream(0, benchOwner{s})
		s.engine.Stream(w, r, x)
		s.streams <- x
	case "/poll":
		x := New(0)
		x.Own(benchOwner{s})
		s.engine.Hold(w, r, x, benchOwner{s})
		s.polls <- x
	case "/plain":
		h.Set("Content-Type", "application/json")
		_, _ = w.Write(benchBody)
		s.served.Add(1)
	}
}

// startBench starts a server and n clients of a path; plain: the server is one
// without an engine.
func startBench(b *testing.B, path string, n int, plain bool) *bench {
	b.Helper()
	s := &bench{b: b, engine: NewEngine(Config{}), streams: make(chan *Stream, n), polls: make(chan *Exchange, n)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute, ConnContext: s.engine.ConnContext, ConnState: s.engine.ConnState}
	door := l
	if !plain {
		door = s.engine.Listen(l)
	}
	ctx, stop := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	wait.Go(func() { _ = s.engine.Run(ctx) })
	wait.Go(func() { _ = server.Serve(door) })

	clients := exec.Command(os.Args[0])
	clients.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", benchClients, l.Addr(), path, n))
	in, err := clients.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := clients.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		_ = server.Close()
		stop()
		wait.Wait()
		_ = clients.Wait()
	})
	return s
}

// cpu is the CPU time that the process has taken.
func cpu() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (s *bench) allStreams(n int) []*Stream {
	all := make([]*Stream, n)
	for i := range all {
		all[i] = <-s.streams
	}
	s.flushed(all)
	return all
}

// flushed waits until nothing waits any more.
func (s *bench) flushed(all []*Stream) {
	for _, x := range all {
		for {
			x.mu.Lock()
			empty := x.queue.empty()
			x.mu.Unlock()
			if empty {
				break
			}
			time.Sleep(100 * time.Microsecond)
		}
	}
}

// BenchmarkFanOut sends 100 bytes to 1,000 clients, and does the same with a
// loop of write(2).
func BenchmarkFanOut(b *testing.B) {
	const n = 1000
	s := startBench(b, "/stream", n, false)
	all := s.allStreams(n)
	f := frame.Chunk(benchBody)
	var engine, bare time.Duration
	rounds := 0
	for b.Loop() {
		rounds++
		start := cpu()
		for _, x := range all {
			x.Send(f)
		}
		s.flushed(all)
		engine += cpu() - start

		start = cpu()
		for _, c := range s.engine.all() {
			if n, err := unix.Write(int(c.fd), f.Wire()); n != f.Len() {
				b.Fatal(n, err)
			}
		}
		bare += cpu() - start
	}
	per := float64(rounds * n)
	b.ReportMetric(float64(engine)/per, "cpu-ns/delivery")
	b.ReportMetric(float64(bare)/per, "cpu-ns/write")
	b.ReportMetric(float64(engine)/float64(bare), "ratio")
}

// BenchmarkMaxFanOut sends without waiting, as far as the clients keep up.
func BenchmarkMaxFanOut(b *testing.B) {
	const n = 1000
	s := startBench(b, "/stream", n, false)
	all := s.allStreams(n)
	f := frame.Chunk(benchBody)
	start, began := cpu(), time.Now()
	rounds := 0
	for b.Loop() {
		rounds++
		for _, x := range all {
			for x.Send(f) > Full/2 {
				time.Sleep(100 * time.Microsecond)
			}
		}
	}
	s.flushed(all)
	per := float64(rounds * n)
	b.ReportMetric(float64(cpu()-start)/per, "cpu-ns/delivery")
	b.ReportMetric(per/time.Since(began).Seconds(), "deliveries/s")
}

// BenchmarkLongPoll compares a delivery to a parked request, with the request
// that follows it, to a plain handler that answers at once.
func BenchmarkLongPoll(b *testing.B) {
	const n = 200
	var engine, plain float64
	b.Run("parked", func(b *testing.B) {
		s := startBench(b, "/poll", n, false)
		round := func(answer bool) {
			for range n {
				x := <-s.polls
				if answer {
					defer x.Answer(Answer{Status: http.StatusOK})
				}
			}
		}
		round(true)
		start := cpu()
		rounds := 0
		for b.Loop() {
			round(true)
			rounds++
		}
		engine = float64(cpu()-start) / float64(rounds*n)
		b.ReportMetric(engine, "cpu-ns/cycle")
	})
	b.Run("plain", func(b *testing.B) {
		s := startBench(b, "/plain", n, true)
		for s.served.Load() < n {
			time.Sleep(time.Millisecond)
		}
		start, before := cpu(), s.served.Load()
		for b.Loop() {
			for until := s.served.Load() + n; s.served.Load() < until; {
				time.Sleep(time.Millisecond)
			}
		}
		plain = float64(cpu()-start) / float64(s.served.Load()-before)
		b.ReportMetric(plain, "cpu-ns/cycle")
		b.ReportMetric(engine/plain, "ratio")
	})
}

// BenchmarkMemory measures the live heap of what is parked.
func BenchmarkMemory(b *testing.B) {
	for _, path := range []string{"/stream", "/poll"} {
		b.Run(path, func(b *testing.B) {
			const n = 5000
			for b.Loop() {
				before := live()
				s := startBench(b, path, n, false)
				for {
					c := s.engine.Counts()
					if c.Streams+c.Exchanges == n {
						break
					}
					time.Sleep(10 * time.Millisecond)
				}
				time.Sleep(100 * time.Millisecond)
				b.ReportMetric(float64(live()-before)/n-8, "B/connection") // without the queue of the benchmark
				runtime.KeepAlive(s)
			}
		})
	}
}

func live() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
