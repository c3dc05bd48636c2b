//go:build linux

package hold_test

import (
	"context"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/comet-push/comet/internal/run"
	"github.com/comet-push/comet/services/edge/internal/hold"
)

func TestExchangesFollowEachOther(t *testing.T) {
	s := serve(t, hold.Config{})
	p := s.dial()
	for range 3 {
		p.get("/x")
		x := s.held()
		s.wantCounts(hold.Counts{Exchanges: 1})
		x.answer("hello")
		if r := p.want("hello"); r.Proto != "HTTP/1.1" || r.Close || r.Header.Get("Content-Type") != "text/plain" {
			t.Errorf("response %+v", r)
		}
		x.wantOver(true)
		s.wantCounts(hold.Counts{Idle: 1})
		p.get("/now") // by net/http, which has to let go, too
		p.want("now " + p.LocalAddr().String())
		s.wantCounts(hold.Counts{Idle: 1})
	}
	s.wantCuts()
}

func TestHoldingTakesNoGoroutines(t *testing.T) {
	s := serve(t, hold.Config{})
	const n = 99
	s.dial().get("/x")
	s.held()
	s.wantCounts(hold.Counts{Exchanges: 1})
	before := runtime.NumGoroutine()
	for i := range n {
		p := s.dial()
		p.get([]string{"/x", "/s", "/now"}[i%3])
		if i%3 == 2 {
			p.want("now " + p.LocalAddr().String())
		}
	}
	s.wantCounts(hold.Counts{Exchanges: 34, Streams: 33, Idle: 33})
	if !eventually(func() bool { return runtime.NumGoroutine() <= before+3 }) {
		t.Errorf("%d goroutines for %d connections", runtime.NumGoroutine()-before, n)
	}
}

func TestPipelined(t *testing.T) {
	const get = " HTTP/1.1\r\nHost: test\r\n\r\n"
	t.Run("behind a parked one", func(t *testing.T) {
		s := serve(t, hold.Config{})
		p := s.dial()
		p.send("GET /x" + get + "GET /now" + get + "GET /x" + get + "GE")
		x := s.held()
		s.wantCounts(hold.Counts{Exchanges: 1})
		x.answer("first")
		p.want("first")
		p.want("now " + p.LocalAddr().String())
		s.held().answer("third")
		p.want("third")
		p.send("T /now" + get)
		p.want("now " + p.LocalAddr().String())
		s.wantCounts(hold.Counts{Idle: 1})
	})
	t.Run("while it is parked", func(t *testing.T) {
		s := serve(t, hold.Config{})
		p := s.dial()
		p.get("/x")
		x := s.held()
		s.wantCounts(hold.Counts{Exchanges: 1})
		p.get("/now")
		x.answer("first")
		p.want("first")
		p.want("now " + p.LocalAddr().String())
		s.wantCounts(hold.Counts{Idle: 1})
	})
	t.Run("a part of one behind an answer at once", func(t *testing.T) {
		const whole = "GET /now" + get
		for _, part := range []string{"G", "GE", "GET", "GET ", "GET /now"} {
			s := serve(t, hold.Config{})
			p := s.dial()
			p.send(whole + part)
			p.want("now " + p.LocalAddr().String())
			p.send(whole[len(part):])
			p.want("now " + p.LocalAddr().String())
			s.wantCounts(hold.Counts{Idle: 1})
		}
	})
	t.Run("garbage", func(t *testing.T) {
		s := serve(t, hold.Config{})
		p := s.dial()
		p.get("/x")
		x := s.held()
		p.send("garbage\r\n\r\n")
		x.answer("first")
		p.want("first")
		if r := p.response(); r.StatusCode != http.StatusBadRequest {
			t.Errorf("status %d", r.StatusCode)
		}
	})
}

func TestPeerVanishes(t *testing.T) {
	for name, vanish := range map[string]func(p *peer){
		"closes": func(p *peer) { _ = p.Close() },
		"half":   func(p *peer) { _ = p.CloseWrite() },
		"resets": func(p *peer) { _ = p.SetLinger(0); _ = p.Close() },
	} {
		for _, path := range []string{"/x", "/s"} {
			t.Run(name+path, func(t *testing.T) {
				inBothForms(t, hold.Config{}, func(t *testing.T, s *server) {
					p := s.dial()
					p.get(path)
					x := s.held()
					vanish(p)
					x.wantOver(false)
					s.wantCounts(hold.Counts{})
					s.wantCuts(hold.Gone)
					if x.exchange != nil {
						x.answer("to nobody")
					} else {
						x.stream.Send(line("to nobody"))
						x.stream.End(nil)
					}
					if len(x.over) > 0 {
						t.Errorf("over again: %v", <-x.over)
					}
				})
			})
		}
	}
}

func TestHalfClosedClientGetsAnswerAtOnce(t *testing.T) {
	s := serve(t, hold.Config{})
	p := s.dial()
	p.get("/now")
	_ = p.CloseWrite()
	p.want("now " + p.LocalAddr().String())
	p.wantEnd()
	s.wantCounts(hold.Counts{})
	s.wantCuts()
}

func TestSilence(t *testing.T) {
	const short = 200 * time.Millisecond
	t.Run("new", func(t *testing.T) {
		s := serve(t, hold.Config{HeaderTimeout: short})
		s.dial().wantEnd()
		s.wantCuts(hold.HeaderTimeout)
	})
	t.Run("between requests", func(t *testing.T) {
		s := serve(t, hold.Config{IdleTimeout: short})
		p := s.dial()
		p.get("/now")
		p.want("now " + p.LocalAddr().String())
		p.wantEnd()
		s.wantCuts(hold.Idle)
	})
	t.Run("closes", func(t *testing.T) {
		s := serve(t, hold.Config{})
		p := s.dial()
		s.wantCounts(hold.Counts{Idle: 1})
		_ = p.Close()
		s.wantCounts(hold.Counts{})
		s.wantCuts()
	})
}

func TestConnectionEndsBehindTheAnswer(t *testing.T) {
	tests := []struct {
		name    string
		request string
		proto   string
		body    string
	}{
		{"asked to", "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "HTTP/1.1", "ok"},
		{"HTTP/1.0", "GET /x HTTP/1.0\r\n\r\n", "HTTP/1.0", "ok"},
		{"HTTP/1.0 that could stay", "GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "HTTP/1.0", "ok"},
		{"unread body", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12", "HTTP/1.1", "ok"},
		{"unread body that is there", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345GET /", "HTTP/1.1", "ok"},
		{"unread chunks", "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n2\r\n0\r\n\r\n", "HTTP/1.1", "ok"},
		{"unread body that was to be asked for", "POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1", "ok"},
		{"as replied", "GET /x HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1", "last"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, hold.Config{})
			p := s.dial()
			p.send(tt.request)
			x := s.held()
			s.wantCounts(hold.Counts{Exchanges: 1})
			x.answer(tt.body)
			if r := p.want(tt.body); r.Proto != tt.proto || !r.Close {
				t.Errorf("response %+v", r)
			}
			p.wantEnd()
			x.wantOver(true)
			_ = p.Close()
			s.wantCounts(hold.Counts{})
			s.wantCuts()
		})
	}
}

// What was read of the connection is, by chance, as much as a request would take
// that came first.
func TestUnreadBodyOfSecondRequest(t *testing.T) {
	const first, body = "GET /now HTTP/1.1\r\nHost: a\r\n\r\n", "GET /now HTTP/1.1\r\nHost: smuggled\r\n\r\n"
	second := "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n"
	second += "Padding: " + strings.Repeat("x", 100-len(second)-len("Padding: \r\n\r\n")) + "\r\n\r\n"
	s := serve(t, hold.Config{})
	p := s.dial()
	p.send(first + second)
	p.want("now " + p.LocalAddr().String())
	x := s.held()
	s.wantCounts(hold.Counts{Exchanges: 1})
	p.send(body)
	x.answer("ok")
	if r := p.want("ok"); !r.Close {
		t.Error("the connection stays")
	}
	p.wantEnd()
}

func TestConnectionStays(t *testing.T) {
	tests := []struct{ name, head, body string }{
		{"body", "POST /x?body HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", "12345"},
		{"chunks", "POST /x?body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n2\r\n0\r\n\r\n"},
		{"empty body", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, hold.Config{})
			p := s.dial()
			for range 2 {
				p.send(tt.head)
				p.send(tt.body)
				x := s.held()
				s.wantCounts(hold.Counts{Exchanges: 1})
				x.answer("ok")
				if r := p.want("ok"); r.Close {
					t.Error("it is to be closed")
				}
			}
			s.wantCounts(hold.Counts{Idle: 1})
		})
	}
	t.Run("expect", func(t *testing.T) {
		s := serve(t, hold.Config{})
		p := s.dial()
		p.send("POST /x?body HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
		const interim = "HTTP/1.1 100 Continue\r\n\r\n"
		var got [len(interim)]byte
		if _, err := io.ReadFull(p.r, got[:]); err != nil || string(got[:]) != interim {
			t.Fatalf("got %q, %v", got, err)
		}
		p.send("12345")
		s.held().answer("ok")
		if r := p.want("ok"); r.Close {
			t.Error("it is to be closed")
		}
		s.wantCounts(hold.Counts{Idle: 1})
	})
}

func TestHeadIsNotParked(t *testing.T) {
	s := serve(t, hold.Config{})
	p := s.dial()
	p.send("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n")
	x := s.held()
	s.wantCounts(hold.Counts{Serving: 1})
	x.answer("hello")
	r, err := http.ReadResponse(p.r, &http.Request{Method: http.MethodHead})
	if err != nil || r.ContentLength != 5 {
		t.Errorf("response %+v, %v", r, err)
	}
	x.wantOver(true)
	p.get("/now")
	p.want("now " + p.LocalAddr().String())
}

func TestSlowReaderOfAnAnswer(t *testing.T) {
	body := strings.Repeat("x", 12<<20)
	t.Run("reads", func(t *testing.T) {
		s := serve(t, hold.Config{})
		p := s.dial()
		p.get("/x")
		x := s.held()
		x.answer(body)
		select {
		case <-x.over:
			t.Error("over before it was read")
		case <-time.After(50 * time.Millisecond):
		}
		p.want(body)
		x.wantOver(true)
		s.wantCounts(hold.Counts{Idle: 1})
		s.wantCuts()
	})
	inBothForms(t, hold.Config{WriteTimeout: 400 * time.Millisecond}, func(_ *testing.T, s *server) {
		p := s.dial()
		p.get("/x")
		x := s.held()
		x.answer(body)
		x.wantOver(false)
		s.wantCuts(hold.Slow)
	})
	t.Run("resets", func(t *testing.T) {
		s := serve(t, hold.Config{})
		p := s.dial()
		p.get("/x")
		x := s.held()
		x.answer(body)
		_, _ = p.r.ReadByte() // the rest waits
		_ = p.SetLinger(0)
		_ = p.Close()
		x.wantOver(false)
		s.wantCuts(hold.Gone)
		s.wantCounts(hold.Counts{})
	})
}

func TestDrain(t *testing.T) {
	s := serve(t, hold.Config{DrainWindow: 100 * time.Millisecond})
	resting, waiting, streaming := s.dial(), s.dial(), s.dial()
	resting.get("/now")
	resting.want("now " + resting.LocalAddr().String())
	waiting.get("/x")
	x := s.held()
	streaming.get("/s")
	y := s.held()
	s.wantCounts(hold.Counts{Idle: 1, Exchanges: 1, Streams: 1})

	if err := s.http.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	resting.wantEnd()
	s.wantCounts(hold.Counts{Exchanges: 1, Streams: 1})
	s.stop(run.ErrDraining)
	x.wantDrain()
	y.wantDrain()
	x.answer("away")
	y.stream.End(line("away"))
	if r := waiting.want("away"); !r.Close {
		t.Error("the connection stays")
	}
	waiting.wantEnd()
	if r := streaming.want("away\n"); !r.Close {
		t.Error("the connection stays")
	}
	streaming.wantEnd()
	x.wantOver(true)
	y.wantOver(true)
	s.wantCuts()
}

func TestStopTellsAllOwners(t *testing.T) {
	s := serve(t, hold.Config{})
	var all []*parked
	for i := range 20 {
		s.dial().get([]string{"/x", "/s"}[i%2])
		all = append(all, s.held())
	}
	s.wantCounts(hold.Counts{Exchanges: 10, Streams: 10})
	s.stop(context.Canceled)
	for _, x := range all {
		x.wantOver(false)
	}
}
