//go:build linux

package hold_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/comet-push/comet/services/edge/internal/frame"
	"github.com/comet-push/comet/services/edge/internal/hold"
)

// socket is the client's end of a WebSocket.
type socket struct {
	t *testing.T
	net.Conn
	io.Reader
}

func (s socket) Read(p []byte) (int, error) { return s.Reader.Read(p) }

func (s *server) upgrade(t *testing.T, query string, protocols ...string) (socket, ws.Handshake) {
	t.Helper()
	d := ws.Dialer{Protocols: protocols}
	c, buffered, h, err := d.Dial(context.Background(), "ws://"+s.addr+"/ws"+query)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(3 * patience))
	k := socket{t, c, c}
	if buffered != nil {
		k.Reader = io.MultiReader(buffered, c)
	}
	return k, h
}

func (s socket) send(op ws.OpCode, fin bool, payload string) {
	s.t.Helper()
	if err := ws.WriteFrame(s.Conn, ws.MaskFrame(ws.NewFrame(op, fin, []byte(payload)))); err != nil {
		s.t.Fatalf("send: %v", err)
	}
}

// want reads a frame.
func (s socket) want(op ws.OpCode, payload string) {
	s.t.Helper()
	f, err := ws.ReadFrame(s)
	if err != nil || f.Header.OpCode != op || string(f.Payload) != payload {
		s.t.Errorf("got %x %.100q, %v; want %x %.100q", f.Header.OpCode, f.Payload, err, op, payload)
	}
}

// wantClose reads a closing frame.
func (s socket) wantClose(code ws.StatusCode) {
	s.t.Helper()
	f, err := ws.ReadFrame(s)
	got, _ := ws.ParseCloseFrameData(f.Payload)
	if err != nil || f.Header.OpCode != ws.OpClose || got != code {
		s.t.Errorf("got %x %d, %v; want to be closed with %d", f.Header.OpCode, got, err, code)
	}
}

func (s socket) wantEnd() {
	s.t.Helper()
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		s.t.Errorf("read: %v; want the end", err)
	}
}

func (p *parked) wantMessage(want string) {
	p.t.Helper()
	select {
	case got := <-p.messages:
		if got != want {
			p.t.Errorf("message %.100q, want %.100q", got, want)
		}
	case <-time.After(patience):
		p.t.Fatal("no message")
	}
}

func TestSocket(t *testing.T) {
	inBothForms(t, hold.Config{}, func(t *testing.T, s *server) {
		k, _ := s.upgrade(t, "")
		x := s.held()
		k.send(ws.OpText, true, "one")
		x.wantMessage("one")
		x.stream.Send(frame.Text([]byte("two")))
		k.want(ws.OpText, "two")
		k.send(ws.OpText, false, "thr")
		k.send(ws.OpPing, true, "ping")
		k.want(ws.OpPong, "ping")
		k.send(ws.OpContinuation, true, "ee")
		x.wantMessage("three")
		x.stream.Send(frame.Ping())
		k.want(ws.OpPing, "")
		k.send(ws.OpPong, true, "")
		x.wantMessage("pong ")
		x.stream.Send(frame.Ping(7))
		k.want(ws.OpPing, "\x07")
		k.send(ws.OpPong, true, "\x07")
		x.wantMessage("pong \x07")
		for range 1000 {
			k.send(ws.OpText, true, "x")
		}
		for range 1000 {
			x.wantMessage("x")
		}
		_ = k.Close()
		x.wantOver(false)
		s.wantCounts(hold.Counts{})
		s.wantCuts(hold.Gone)
	})
}

func TestSocketCloses(t *testing.T) {
	inBothForms(t, hold.Config{}, func(t *testing.T, s *server) {
		t.Run("by the client", func(t *testing.T) {
			k, _ := s.upgrade(t, "")
			x := s.held()
			k.send(ws.OpClose, true, "\x0f\xa0bye") // 4000
			k.wantClose(4000)
			k.wantEnd()
			x.wantOver(false)
			_ = k.Close()
		})
		t.Run("by the owner", func(t *testing.T) {
			k, _ := s.upgrade(t, "")
			x := s.held()
			x.stream.Send(frame.Text([]byte("last")))
			x.stream.End(frame.Close(1012, "restart"))
			k.want(ws.OpText, "last")
			k.wantClose(1012)
			x.wantOver(true)
			k.send(ws.OpText, true, "too late") // does not lose the client what it was sent
			k.send(ws.OpClose, true, "\x03\xf4")
			_ = k.Close()
		})
		t.Run("by the owner, and the client does not mind", func(t *testing.T) {
			k, _ := s.upgrade(t, "")
			x := s.held()
			x.stream.End(frame.Close(1012, "restart"))
			k.wantClose(1012)
			x.wantOver(true)
		})
		s.wantCounts(hold.Counts{})
		s.wantCuts()
	})
}

func TestSocketFaults(t *testing.T) {
	inBothForms(t, hold.Config{}, func(t *testing.T, s *server) {
		for code, send := range map[ws.StatusCode]func(k socket){
			1002: func(k socket) { k.send(ws.OpContinuation, true, "x") },
			1003: func(k socket) { k.send(ws.OpBinary, true, "x") },
			1007: func(k socket) { k.send(ws.OpText, true, "\xff") },
			1009: func(k socket) { k.send(ws.OpText, true, strings.Repeat("x", 1<<10+1)) },
		} {
			k, _ := s.upgrade(t, "")
			x := s.held()
			send(k)
			k.wantClose(code)
			k.wantEnd()
			x.wantOver(false)
			_ = k.Close()
		}
		s.wantCuts(hold.Protocol, hold.Protocol, hold.Protocol, hold.Protocol)
	})
}

func TestSocketInTheMiddleOfAMessage(t *testing.T) {
	inBothForms(t, hold.Config{WriteTimeout: 400 * time.Millisecond}, func(t *testing.T, s *server) {
		k, _ := s.upgrade(t, "")
		x := s.held()
		k.send(ws.OpText, true, "whole")
		x.wantMessage("whole")
		select {
		case <-x.over:
			t.Error("cut for silence between messages")
		case <-time.After(time.Second):
		}
		k.send(ws.OpText, false, "part")
		x.wantOver(false)
		s.wantCuts(hold.Slow)
	})
}

func TestSocketPingsWithoutReading(t *testing.T) {
	// Long enough for the kernel not to give up first, between two writes of the
	// test: that would count as gone.
	inBothForms(t, hold.Config{WriteTimeout: 2 * time.Second}, func(t *testing.T, s *server) {
		k, _ := s.upgrade(t, "")
		x := s.held()
		ping := ws.MustCompileFrame(ws.MaskFrame(ws.NewPingFrame([]byte(strings.Repeat("x", 125)))))
		pings := []byte(strings.Repeat(string(ping), 1000))
		for {
			if _, err := k.Write(pings); err != nil {
				break
			}
		}
		x.wantOver(false)
		s.wantCuts(hold.Slow)
	})
}

func TestSocketBehindUpgrade(t *testing.T) {
	inBothForms(t, hold.Config{}, func(t *testing.T, s *server) {
		p := s.dial()
		text := func(s string) string {
			return string(ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte(s)))))
		}
		p.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" + text("one") + text("two")[:3])
		x := s.held()
		if r := p.response(); r.StatusCode != http.StatusSwitchingProtocols || r.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("response %+v", r)
		}
		x.wantMessage("one")
		p.send(text("three")[:0])
		_ = p.SetLinger(0)
		_ = p.Close()
		x.wantOver(false)
		s.wantCuts(hold.Gone)
	})
}

func TestSubprotocol(t *testing.T) {
	s := serve(t, hold.Config{})
	for _, tt := range []struct {
		query   string
		offered []string
		want    string
	}{
		{"", nil, ""},
		{"", []string{"a", "b"}, "a"},
		{"?protocol=b", []string{"a", "b"}, "b"},
		{"?protocol=c", []string{"a", "b"}, ""},
	} {
		if _, h := s.upgrade(t, tt.query, tt.offered...); h.Protocol != tt.want {
			t.Errorf("%s, %v: %q, want %q", tt.query, tt.offered, h.Protocol, tt.want)
		}
	}
}

func TestBadUpgrade(t *testing.T) {
	inBothForms(t, hold.Config{}, func(t *testing.T, s *server) {
		p := s.dial()
		p.get("/ws")
		x := s.held()
		if r := p.response(); r.StatusCode != http.StatusBadRequest {
			t.Errorf("status %d", r.StatusCode)
		}
		x.wantOver(false)
		_, _, _, err := ws.Dialer{Header: ws.HandshakeHeaderHTTP{"Sec-WebSocket-Version": {"8"}}}.Dial(context.Background(), "ws://"+s.addr+"/ws")
		if err != nil {
			if _, ok := errors.AsType[ws.StatusError](err); !ok {
				t.Error(err)
			}
		}
	})
}

func TestSocketMessagesWhileUpgrading(t *testing.T) {
	s := serve(t, hold.Config{})
	for range 200 {
		k, _ := s.upgrade(t, "")
		if err := wsutil.WriteClientText(k.Conn, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		x := s.held()
		x.wantMessage("hello")
		_ = k.Close()
		x.wantOver(false)
	}
}
