package load

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/google/go-cmp/cmp"
)

// splits returns text whole, byte by byte, and in some random pieces.
func splits(text []byte) [][][]byte {
	single := make([][]byte, 0, len(text))
	for i := range text {
		single = append(single, text[i:i+1])
	}
	all := [][][]byte{{text}, single}
	r := rand.New(rand.NewPCG(1, uint64(len(text))))
	for range 8 {
		var pieces [][]byte
		for rest := text; len(rest) > 0; {
			n := 1 + r.IntN(min(len(rest), 64))
			pieces = append(pieces, rest[:n])
			rest = rest[n:]
		}
		all = append(all, pieces)
	}
	return all
}

// responses feeds pieces and describes what came of them.
func responses(parts [][]byte) string {
	var r response
	var p pieces
	var out strings.Builder
	for _, piece := range parts {
		for len(piece) > 0 {
			body, rest, done, err := r.feed(bytes.Clone(piece))
			if err != nil {
				fmt.Fprintf(&out, "error %v\n", err)
				return out.String()
			}
			piece = rest
			text, err := p.whole(body, done)
			if err != nil {
				fmt.Fprintf(&out, "error %v\n", err)
				return out.String()
			}
			if done {
				fmt.Fprintf(&out, "%d closes=%t cookies=%q %q\n", r.status, r.closes, r.cookies, text)
			}
		}
	}
	if r.state != inHead {
		fmt.Fprintf(&out, "unfinished: %d %q\n", r.status, p.held)
	}
	return out.String()
}

func TestResponse(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", `200 closes=false cookies="" "hello"`},
		{"no body", "HTTP/1.1 204 No Content\r\n\r\n", `204 closes=false cookies="" ""`},
		{"empty body", "HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n", `200 closes=false cookies="" ""`},
		{
			"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n000A;x=y\r\n, world...\r\n0\r\nA: b\r\n\r\n",
			`200 closes=false cookies="" "hello, world..."`,
		},
		{
			"one behind the other", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 503 Unavailable\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
			"200 closes=false cookies=\"\" \"\"\n503 closes=true cookies=\"\" \"x\"",
		},
		{"cookies", "HTTP/1.1 200 OK\r\nSet-Cookie: A=1; Path=/\r\nset-cookie: B=2\r\nContent-Length: 0\r\n\r\n", `200 closes=false cookies="A=1; B=2" ""`},
		{"interim", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", `200 closes=false cookies="" "x"`},
		{"switching", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", `101 closes=false cookies="" ""`},
		{"until the end", "HTTP/1.0 200 OK\r\n\r\nabc", `unfinished: 200 ""`},
		{"no HTTP", "\x15\x03\x01\x00\x02\x02\x16 and more than that\r\n\r\n", `error the server does not speak HTTP/1.1: "\x15\x03\x01\x00\x02\x02\x16 and more than that"`},
		{"no size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", `error a chunk's size has a byte 0xd`},
		{"wrong size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", `error a chunk is longer than its size says`},
		{"huge", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", `error a chunk is over 2 GiB`},
		{"negative", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", `error a response has the length "-1"`},
		{"endless head", "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 4000), fmt.Sprintf("error a response's head is over %d bytes", maxHead)},
	} {
		for i, pieces := range splits([]byte(tt.text)) {
			got := strings.TrimSpace(responses(pieces))
			if strings.HasPrefix(tt.want, "unfinished") {
				got, _, _ = strings.Cut(got, "\n")
				got = strings.Replace(got, `"abc"`, `""`, 1)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s, split %d:\n%s", tt.name, i, diff)
			}
		}
	}
}

// FuzzResponse checks that it does not matter how bytes arrive.
func FuzzResponse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 204 No\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nSet-Cookie: a=b; x\r\nContent-Length: 0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		all := splits(text)
		want := responses(all[0])
		for _, pieces := range all[1:] {
			if got := responses(pieces); got != want {
				t.Errorf("split:\n%s\nwhole:\n%s", got, want)
			}
		}
	})
}

// sockets feeds pieces and describes what came of them.
func sockets(parts [][]byte) string {
	var s socket
	var p, control pieces
	var out strings.Builder
	for _, piece := range parts {
		for len(piece) > 0 {
			payload, rest, done, err := s.feed(bytes.Clone(piece))
			if err != nil {
				fmt.Fprintf(&out, "error %v\n", err)
				return out.String()
			}
			piece = rest
			held := &p
			if s.op.IsControl() {
				held = &control
			}
			text, err := held.whole(payload, done)
			if err != nil {
				fmt.Fprintf(&out, "error %v\n", err)
				return out.String()
			}
			if done {
				fmt.Fprintf(&out, "%d %q\n", s.op, text)
			}
		}
	}
	return out.String()
}

func TestSocket(t *testing.T) {
	compile := func(frames ...ws.Frame) []byte {
		var out []byte
		for _, f := range frames {
			out = append(out, ws.MustCompileFrame(f)...)
		}
		return out
	}
	long := strings.Repeat("x", 70_000)
	for _, tt := range []struct {
		name string
		in   []byte
		want string
	}{
		{"text", compile(ws.NewTextFrame([]byte("hello")), ws.NewTextFrame(nil)), "1 \"hello\"\n1 \"\"\n"},
		{
			"lengths", compile(ws.NewTextFrame([]byte(long[:126])), ws.NewTextFrame([]byte(long))),
			fmt.Sprintf("1 %q\n1 %q\n", long[:126], long),
		},
		{"parts", compile(ws.NewFrame(ws.OpText, false, []byte("a")), ws.NewFrame(ws.OpContinuation, false, []byte("b")),
			ws.NewFrame(ws.OpContinuation, true, []byte("c")), ws.NewPingFrame([]byte("p"))), "1 \"abc\"\n9 \"p\"\n"},
		{"ping between parts", compile(ws.NewFrame(ws.OpText, false, []byte("a")), ws.NewPingFrame([]byte("p")),
			ws.NewFrame(ws.OpContinuation, true, []byte("c"))), "9 \"p\"\n1 \"ac\"\n"},
		{"masked", ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte("x")))), "error the server sent a compressed or masked frame, which nobody asked for\n"},
		{"compressed", []byte{0xc1, 0x01, 'x'}, "error the server sent a compressed or masked frame, which nobody asked for\n"},
		{"long ping", compile(ws.NewFrame(ws.OpPing, true, []byte(long[:126]))), "error the server sent a control frame that is too long or in parts\n"},
	} {
		for i, pieces := range splits(tt.in) {
			if diff := cmp.Diff(tt.want, sockets(pieces)); diff != "" {
				t.Errorf("%s, split %d:\n%s", tt.name, i, diff)
			}
		}
	}
}

// FuzzSocket checks that it does not matter how bytes arrive.
func FuzzSocket(f *testing.F) {
	f.Add(ws.MustCompileFrame(ws.NewTextFrame([]byte("hello"))))
	f.Add(ws.MustCompileFrame(ws.NewFrame(ws.OpText, false, make([]byte, 200))))
	f.Add([]byte{0x89, 0x00, 0x81, 0x7f, 0, 0, 0, 0, 0, 0, 0, 1, 'x'})
	f.Fuzz(func(t *testing.T, text []byte) {
		all := splits(text)
		want := sockets(all[0])
		for _, pieces := range all[1:] {
			if got := sockets(pieces); got != want {
				t.Errorf("split:\n%s\nwhole:\n%s", got, want)
			}
		}
	})
}

func TestAppendFrame(t *testing.T) {
	b := appendFrame([]byte("before"), ws.OpText, []byte("payload"))
	f, err := ws.ReadFrame(bytes.NewReader(b[len("before"):]))
	if err != nil || !f.Header.Masked || f.Header.OpCode != ws.OpText {
		t.Fatalf("%+v %v", f.Header, err)
	}
	if got := string(ws.UnmaskFrame(f).Payload); got != "payload" {
		t.Errorf("payload %q", got)
	}
}
