//go:build linux

package hold_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/internal/run"
	"github.com/comet-push/comet/services/edge/internal/hold"
)

// Connections that speak HTTP/2 come from the engine's listener, too.
func TestHTTP2WithoutTLS(t *testing.T) {
	s := serveBy(t, hold.Config{}, false, true, func(e *hold.Engine) holder { return e })
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	client := http.Client{Transport: transport}
	get := func(path string) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.addr+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(r)
		if err != nil || res.ProtoMajor != 2 {
			t.Fatalf("%+v, %v", res, err)
		}
		return res
	}
	stream := get("/s")
	x := s.held()
	done := make(chan struct{})
	go func() {
		defer close(done)
		y := s.held()
		s.wantCounts(hold.Counts{Serving: 1})
		y.answer("ok")
		y.wantOver(true)
	}()
	res := get("/x")
	if b, err := io.ReadAll(res.Body); string(b) != "ok" || err != nil {
		t.Errorf("body %q, %v", b, err)
	}
	<-done
	x.stream.Send(line("a"))
	if l, err := bufio.NewReader(stream.Body).ReadString('\n'); l != "a\n" || err != nil {
		t.Errorf("got %q, %v", l, err)
	}
	x.stream.End(nil)
	wantBodyEnd(t, stream)
	x.wantOver(true)
	for range 3 { // the connection rests in between
		_, _ = io.ReadAll(get("/now").Body)
	}
	stream = get("/s")
	x = s.held()
	_ = stream.Body.Close()
	x.wantOver(false)
	s.wantCuts(hold.Gone)
	for until := time.Now().Add(patience); s.engine.Counts() != (hold.Counts{}) && time.Now().Before(until); {
		transport.CloseIdleConnections() // idle once the stream is reset
		time.Sleep(time.Millisecond)
	}
	s.wantCounts(hold.Counts{})

	p := s.dial() // others are parked all the same
	for range 2 {
		p.get("/x")
		x := s.held()
		s.wantCounts(hold.Counts{Exchanges: 1})
		x.answer("ok")
		p.want("ok")
		p.get("/now")
		p.want("now " + p.LocalAddr().String())
		s.wantCounts(hold.Counts{Idle: 1})
	}
}

func TestStreamsOfGoroutinesDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		w := httptest.NewRecorder()
		p := &parked{t: t, over: make(chan bool, 2), drain: make(chan struct{}, 2), writable: make(chan struct{}, 2)}
		p.stream = hold.NewStream(1, p)
		go hold.Waiting{WriteTimeout: time.Second, DrainWindow: time.Minute}.Stream(
			w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/s", nil), p.stream)
		time.Sleep(time.Hour)
		p.stream.Send(line("a"))
		synctest.Wait()
		start := time.Now()
		cancel(run.ErrDraining)
		<-p.drain
		if took := time.Since(start); took > time.Minute {
			t.Errorf("asked to end after %v", took)
		}
		p.stream.End(line("b"))
		p.wantOver(true)
		if got := w.Body.String(); got != "a\nb\n" {
			t.Errorf("body %q", got)
		}
	})
}

func TestStreamsOfGoroutinesEndWithTheirPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := &parked{t: t, over: make(chan bool, 2)}
		p.stream = hold.NewStream(1, p)
		var cuts []hold.Reason
		go hold.Waiting{Cut: func(r hold.Reason) { cuts = append(cuts, r) }}.Stream(
			httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/s", nil), p.stream)
		synctest.Wait()
		cancel()
		p.wantOver(false)
		if len(cuts) != 1 || cuts[0] != hold.Gone {
			t.Errorf("cuts %v", cuts)
		}
	})
}

// The limit on writing is none on the wait between two writes.
func TestHTTP2StreamThatWaits(t *testing.T) {
	s := serveBy(t, hold.Config{WriteTimeout: 300 * time.Millisecond}, false, true, func(e *hold.Engine) holder { return e })
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := http.Client{Transport: &http.Transport{Protocols: protocols}}
	defer client.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.addr+"/s", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	x := s.held()
	in := bufio.NewReader(res.Body)
	for _, text := range []string{"a", "b"} {
		x.stream.Send(line(text))
		if l, err := in.ReadString('\n'); l != text+"\n" || err != nil {
			t.Fatalf("got %q, %v", l, err)
		}
		time.Sleep(time.Second) // longer than the limit
	}
	x.stream.End(line("c"))
	if l, err := in.ReadString(10); l != "c\n" || err != nil {
		t.Errorf("got %q, %v", l, err)
	}
	x.wantOver(true)
	s.wantCuts()
}
