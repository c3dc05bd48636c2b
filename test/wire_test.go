package test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/comet-push/comet/test/internal/cluster"
)

// TestWire speaks HTTP as few clients do but all may: what is held is answered
// in order, whole and once.
func TestWire(t *testing.T) {
	p := cluster.Alone(t, "--edge.heartbeat=1s")
	const waiting = "GET /channels/wire?transport=long-poll HTTP/1.1\r\nHost: x\r\n\r\n"
	const poll = "GET /channels/wire?since=latest HTTP/1.1\r\nHost: x\r\n\r\n"
	const old = "GET /channels/wire?transport=long-poll HTTP/1.0\r\n"
	publish := func(t *testing.T, w *wire) {
		t.Helper()
		held(t, p, 1)
		w.silent(100 * time.Millisecond)
		if status, reply := post(t, "http://"+p.HTTP+"/channels/wire", "application/json", `"news"`); status != http.StatusOK {
			t.Fatalf("publish: %d %s", status, reply)
		}
	}
	news := func(w *wire) { w.response("HTTP/1.", `"data":"news"}],"cursor":"`) }
	tests := []struct {
		name string
		run  func(t *testing.T, w *wire)
	}{
		{"pipelined", func(t *testing.T, w *wire) {
			w.send(waiting + poll)
			publish(t, w)
			news(w)
			w.response("HTTP/1.1 200", `{"messages":[],"cursor":"`)
		}},
		{"next request while held", func(t *testing.T, w *wire) {
			w.send(waiting)
			w.silent(100 * time.Millisecond)
			w.send(poll[:20])
			publish(t, w)
			news(w)
			w.send(poll[20:] + waiting)
			w.response("HTTP/1.1 200", `{"messages":[],"cursor":"`)
			publish(t, w)
			news(w)
		}},
		{"byte by byte", func(t *testing.T, w *wire) {
			for i := range waiting {
				w.send(waiting[i : i+1])
				time.Sleep(time.Millisecond)
			}
			publish(t, w)
			news(w)
		}},
		{"HTTP/1.0", func(t *testing.T, w *wire) {
			w.send(old + "\r\n")
			publish(t, w)
			news(w)
			w.ended()
		}},
		{"HTTP/1.0 kept alive", func(t *testing.T, w *wire) {
			w.send(old + "Connection: keep-alive\r\n\r\n")
			publish(t, w)
			news(w)
			w.ended() // what was held closes, and says so
		}},
		{"connection close", func(t *testing.T, w *wire) {
			w.send(strings.Replace(waiting, "Host", "Connection: close\r\nHost", 1))
			publish(t, w)
			news(w)
			w.ended()
		}},
		{"100-continue", func(_ *testing.T, w *wire) {
			w.send("POST /channels/wire HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
			w.line("HTTP/1.1 100 Continue")
			w.line("")
			w.send(`"a"`)
			w.response("HTTP/1.1 200", `"duplicate":false`)
		}},
		{"chunked body", func(_ *testing.T, w *wire) {
			w.send("POST /channels/wire HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\"\r\n2\r\na\"\r\n0\r\n\r\n")
			w.response("HTTP/1.1 200", `"duplicate":false`)
		}},
		{"HEAD of a stream", func(_ *testing.T, w *wire) {
			w.send("HEAD /channels/wire?transport=sse HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			w.line("HTTP/1.1 200 OK")
			w.ends()
		}},
		{"half closed", func(t *testing.T, w *wire) {
			w.send(waiting)
			w.silent(100 * time.Millisecond)
			if err := w.conn.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			w.ends() // with or without an answer, but soon
		}},
		{"not HTTP", func(_ *testing.T, w *wire) {
			w.send("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n")
			w.ends()
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := dialWire(t, p.HTTP)
			tt.run(t, w)
			_ = w.conn.SetLinger(0)
			_ = w.conn.Close()
			held(t, p, 0)
		})
	}
}

// held waits until so many plain requests are held.
func held(t *testing.T, p *cluster.Process, want float64) {
	t.Helper()
	cluster.Eventually(t, 5*time.Second, fmt.Sprintf("%v requests are held", want), func() error {
		n, err := p.Metric("comet_edge_readers")
		if err == nil && n != want {
			err = fmt.Errorf("%v are", n)
		}
		return err
	})
}

// wire is a connection whose bytes are written by hand.
type wire struct {
	t    *testing.T
	conn *net.TCPConn
	in   *bufio.Reader
}

func dialWire(t *testing.T, address string) *wire {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &wire{t: t, conn: conn.(*net.TCPConn), in: bufio.NewReader(conn)}
}

func (w *wire) send(text string) {
	w.t.Helper()
	if _, err := io.WriteString(w.conn, text); err != nil {
		w.t.Fatal(err)
	}
}

// silent checks that nothing comes for a while.
func (w *wire) silent(d time.Duration) {
	w.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	if err := w.conn.SetReadDeadline(time.Now().Add(d)); err != nil {
		w.t.Fatal(err)
	}
	if early, err := w.in.Peek(1); err == nil {
		w.t.Fatalf("%q came early", early)
	}
	if err := w.conn.SetReadDeadline(deadline); err != nil {
		w.t.Fatal(err)
	}
}

// line reads one line.
func (w *wire) line(want string) {
	w.t.Helper()
	got, err := w.in.ReadString('\n')
	if err != nil || strings.TrimSuffix(got, "\r\n") != want {
		w.t.Fatalf("got %q, %v, want %q", got, err, want)
	}
}

// response reads a whole response.
func (w *wire) response(status, body string) {
	w.t.Helper()
	resp, err := http.ReadResponse(w.in, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	if got := resp.Proto + " " + resp.Status; !strings.HasPrefix(got, status) || !strings.Contains(string(text), body) {
		w.t.Fatalf("got %s %s, want %s with %s", got, text, status, body)
	}
}

// ended checks that the server closes the connection now.
func (w *wire) ended() {
	w.t.Helper()
	if more, err := io.ReadAll(w.in); err != nil || len(more) > 0 {
		w.t.Fatalf("%q came after the end, %v", more, err)
	}
}

// ends checks that the server closes the connection soon, whatever it says.
func (w *wire) ends() {
	w.t.Helper()
	if err := w.conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		w.t.Fatal(err)
	}
	if said, err := io.ReadAll(w.in); err != nil {
		w.t.Fatalf("it says %q and goes on: %v", said, err)
	}
}
