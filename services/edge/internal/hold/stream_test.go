//go:build linux

package hold_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/comet-push/comet/services/edge/internal/frame"
	"github.com/comet-push/comet/services/edge/internal/hold"
)

// wantBody reads that much of a response.
func wantBody(t *testing.T, r *http.Response, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r.Body, got); err != nil || string(got) != want {
		t.Errorf("body %.100q, %v; want %.100q", got, err, want)
	}
}

// wantBodyEnd checks that a body ended, and as it should.
func wantBodyEnd(t *testing.T, r *http.Response) {
	t.Helper()
	if rest, err := io.ReadAll(r.Body); err != nil || len(rest) > 0 {
		t.Errorf("rest %.100q, %v", rest, err)
	}
}

func TestStream(t *testing.T) {
	tests := []struct {
		name   string
		before func(s *hold.Stream) // it is held
		after  func(s *hold.Stream)
		want   string
		whole  bool
	}{
		{"ends", nil, func(s *hold.Stream) { s.Send(line("a")); s.Send(line("b")); s.End(line("c")) }, "a\nb\nc\n", true},
		{"ends without a word", nil, func(s *hold.Stream) { s.End(nil) }, "", true},
		{"had begun", func(s *hold.Stream) { s.Send(line("a")); s.Send(line("b")) }, func(s *hold.Stream) { s.End(nil) }, "a\nb\n", true},
		{"had ended", func(s *hold.Stream) { s.Send(line("a")); s.End(line("b")) }, func(*hold.Stream) {}, "a\nb\n", true},
		{"nothing behind the end", nil, func(s *hold.Stream) { s.End(nil); s.Send(line("a")); s.End(line("b")) }, "", true},
		{"large frames", nil, func(s *hold.Stream) {
			s.Send(line("a"))
			s.Send(line(strings.Repeat("x", 200<<10)))
			s.Send(line(strings.Repeat("y", 60<<10)))
			s.End(line(strings.Repeat("z", 60<<10)))
		}, "a\n" + strings.Repeat("x", 200<<10) + "\n" + strings.Repeat("y", 60<<10) + "\n" + strings.Repeat("z", 60<<10) + "\n", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBothForms(t, hold.Config{}, func(t *testing.T, s *server) {
				s.beforeStream(tt.before)
				p := s.dial()
				p.get("/s")
				x := s.held()
				r := p.response()
				if r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != "text/event-stream" || r.ContentLength != -1 {
					t.Errorf("response %+v", r)
				}
				tt.after(x.stream)
				wantBody(t, r, tt.want)
				wantBodyEnd(t, r)
				x.wantOver(tt.whole)
				_ = p.Close()
				s.wantCounts(hold.Counts{})
				s.wantCuts()
				if len(x.over) > 0 {
					t.Error("over again")
				}
			})
		})
	}
}

func TestStreamIsCut(t *testing.T) {
	for name, cut := range map[string]func(s *hold.Stream){
		"at once":    func(s *hold.Stream) { s.Cut() },
		"at its end": func(s *hold.Stream) { s.Send(line("a")); s.Cut(); s.End(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			inBothForms(t, hold.Config{}, func(t *testing.T, s *server) {
				p := s.dial()
				p.get("/s")
				x := s.held()
				r := p.response()
				cut(x.stream)
				if _, err := io.ReadAll(r.Body); err == nil {
					t.Error("the body looks whole")
				}
				x.wantOver(false)
				s.wantCounts(hold.Counts{})
				s.wantCuts()
			})
		})
	}
}

func TestStreamInOrder(t *testing.T) {
	inBothForms(t, hold.Config{}, func(t *testing.T, s *server) {
		p := s.dial()
		p.get("/s")
		x := s.held()
		r := p.response()
		const n = 20_000
		go func() {
			for i := range n {
				x.stream.Send(line(fmt.Sprint(i)))
			}
			x.stream.End(nil)
		}()
		for i := range n {
			var got int
			if _, err := fmt.Fscanln(r.Body, &got); err != nil || got != i {
				t.Fatalf("got %d, %v; want %d", got, err, i)
			}
		}
		wantBodyEnd(t, r)
		x.wantOver(true)
	})
}

func TestStreamToOldClient(t *testing.T) {
	inBothForms(t, hold.Config{}, func(t *testing.T, s *server) {
		p := s.dial()
		p.send("GET /s HTTP/1.0\r\n\r\n")
		x := s.held()
		r := p.response()
		if r.Proto != "HTTP/1.0" || !r.Close || len(r.TransferEncoding) > 0 {
			t.Errorf("response %+v", r)
		}
		x.stream.Send(line("a"))
		wantBody(t, r, "a\n")
		x.stream.End(line("b"))
		wantBody(t, r, "b\n")
		wantBodyEnd(t, r)
		x.wantOver(true)
	})
}

func TestHeadOfStream(t *testing.T) {
	inBothForms(t, hold.Config{}, func(t *testing.T, s *server) {
		p := s.dial()
		p.send("HEAD /s HTTP/1.1\r\nHost: a\r\n\r\n")
		x := s.held()
		r, err := http.ReadResponse(p.r, &http.Request{Method: http.MethodHead})
		if err != nil || r.StatusCode != http.StatusOK {
			t.Errorf("response %+v, %v", r, err)
		}
		x.wantOver(false)
		s.wantCuts()
	})
}

// fill sends to a client that does not read until much waits.
func fill(s *hold.Stream, f *frame.Frame) (sent int) {
	for {
		sent++
		if s.Send(f) >= 8<<20 {
			return sent
		}
	}
}

func TestSlowReaderOfAStream(t *testing.T) {
	big := line(strings.Repeat("x", 32<<10))
	t.Run("reads on", func(t *testing.T) {
		inBothForms(t, hold.Config{}, func(t *testing.T, s *server) {
			p := s.dial()
			p.get("/s")
			x := s.held()
			r := p.response()
			n := fill(x.stream, big)
			for len(x.writable) > 0 { // the kernel took faster than it was filled
				<-x.writable
			}
			wantBody(t, r, strings.Repeat(string(big.Payload()), n))
			select {
			case <-x.writable:
			case <-time.After(patience):
				t.Fatal("never writable")
			}
			x.stream.Send(line("a"))
			wantBody(t, r, "a\n")
			if len(x.writable) > 0 {
				t.Error("writable again")
			}
			n = fill(x.stream, big)
			x.stream.End(line("b"))
			wantBody(t, r, strings.Repeat(string(big.Payload()), n)+"b\n")
			wantBodyEnd(t, r)
			x.wantOver(true)
			s.wantCuts()
		})
	})
	t.Run("does not", func(t *testing.T) {
		inBothForms(t, hold.Config{WriteTimeout: 400 * time.Millisecond}, func(t *testing.T, s *server) {
			p := s.dial()
			p.get("/s")
			x := s.held()
			start := time.Now()
			fill(x.stream, big)
			x.wantOver(false)
			if took := time.Since(start); took < 400*time.Millisecond {
				t.Errorf("cut after %v", took)
			}
			s.wantCuts(hold.Slow)
			s.wantCounts(hold.Counts{})
		})
	})
	t.Run("vanishes", func(t *testing.T) {
		inBothForms(t, hold.Config{}, func(_ *testing.T, s *server) {
			p := s.dial()
			p.get("/s")
			x := s.held()
			fill(x.stream, big)
			_ = p.SetLinger(0)
			_ = p.Close()
			x.wantOver(false)
			s.wantCuts(hold.Gone)
			s.wantCounts(hold.Counts{})
		})
	})
	t.Run("is cut", func(t *testing.T) {
		s := serve(t, hold.Config{})
		p := s.dial()
		p.get("/s")
		x := s.held()
		fill(x.stream, big)
		x.stream.Cut()
		x.wantOver(false)
		s.wantCuts()
		s.wantCounts(hold.Counts{})
	})
}

func TestNoAllocationPerDelivery(t *testing.T) {
	s := serve(t, hold.Config{})
	p := s.dial()
	p.get("/s")
	x := s.held()
	p.response()
	f := line(strings.Repeat("x", 100))
	got := make([]byte, 10*f.Len())
	for _, frames := range []int{1, 10} {
		if n := testing.AllocsPerRun(1000, func() {
			for range frames {
				x.stream.Send(f)
			}
			if _, err := io.ReadFull(p.r, got[:frames*f.Len()]); err != nil {
				t.Error(err)
			}
		}); n >= float64(frames)/2 {
			t.Errorf("%d frames at once: %v allocations", frames, n)
		}
	}
}
