//go:build linux

package hold_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/comet-push/comet/services/edge/internal/hold"
)

// TestChurn has connections come and go while things are sent to those that are
// there and to those that are gone, whose descriptors others have by then: every
// client gets what is its own and nothing else, and nothing is left behind.
func TestChurn(t *testing.T) {
	const clients, senders, duration = 16, 2, 1500 * time.Millisecond
	s := serve(t, hold.Config{})
	s.dial().get("/now")
	s.wantCounts(hold.Counts{Idle: 1})
	descriptors, goroutines := openFiles(t), runtime.NumGoroutine()

	var recent [256]atomic.Pointer[parked]
	stop := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		for i := 0; ; i++ {
			select {
			case p := <-s.parked:
				recent[i%len(recent)].Store(p)
				sendTo(p)
			case <-stop:
				return
			}
		}
	})
	for range senders {
		wait.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				sendTo(recent[rand.N(len(recent))].Load())
				runtime.Gosched()
			}
		})
	}
	var served atomic.Int64
	var came sync.WaitGroup
	late := time.Now().Add(duration)
	for i := range clients {
		came.Go(func() {
			for n := 0; time.Now().Before(late); n++ {
				if err := visit(s.addr, fmt.Sprintf("<%d.%d>", i, n)); err != nil {
					t.Error(err)
					return
				}
				served.Add(1)
			}
		})
	}
	came.Wait()
	close(stop)
	wait.Wait()
	t.Logf("%d connections", served.Load())
	s.wantCounts(hold.Counts{Idle: 1})
	if !eventually(func() bool { return openFiles(t) <= descriptors && runtime.NumGoroutine() <= goroutines }) {
		t.Errorf("%d descriptors and %d goroutines, there were %d and %d",
			openFiles(t), runtime.NumGoroutine(), descriptors, goroutines)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(all)
}

// sendTo sends a client its name, or ends what is held for it.
func sendTo(p *parked) {
	if p == nil {
		return
	}
	if p.exchange != nil {
		p.exchange.Answer(hold.Answer{Status: http.StatusOK, Body: []byte(p.id)})
		return
	}
	switch rand.N(200) {
	case 0:
		p.stream.End(line(p.id))
	case 1:
		p.stream.Cut()
	default:
		p.stream.Send(line(p.id))
	}
}

// visit is a client that leaves, politely or not, after a while.
func visit(addr, id string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if tcp, ok := c.(*net.TCPConn); ok && rand.N(2) == 0 {
		_ = tcp.SetLinger(0)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReader(c)
	for range 1 + rand.N(3) {
		path := []string{"/x", "/s", "/now"}[rand.N(3)]
		if _, err := fmt.Fprintf(c, "GET %s?id=%s HTTP/1.1\r\nHost: a\r\n\r\n", path, id); err != nil {
			return err
		}
		if rand.N(4) == 0 {
			return nil // without reading
		}
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			if path == "/s" {
				return nil // it was cut
			}
			return fmt.Errorf("%s: %w", path, err)
		}
		body := io.Reader(res.Body)
		if path == "/s" {
			body = io.LimitReader(body, int64(rand.N(60)))
		}
		got, _ := io.ReadAll(body)
		own := strings.ReplaceAll(strings.ReplaceAll(string(got), id, ""), "\n", "")
		if path != "/now" && !strings.HasPrefix(id, own) {
			return fmt.Errorf("%s of %s: got %q", path, id, got)
		}
		if path == "/s" {
			return nil
		}
	}
	return nil
}
