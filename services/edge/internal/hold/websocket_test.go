package hold

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

// client returns the bytes of a frame as a client sends it.
func client(op ws.OpCode, fin bool, payload string) []byte {
	return ws.MustCompileFrame(ws.MaskFrameWith(ws.NewFrame(op, fin, []byte(payload)), [4]byte{1, 2, 3, 4}))
}

// parse feeds pieces to a parser and writes down what comes out of it.
func parse(p *parser, most int, pieces ...[]byte) (log []string) {
	for _, piece := range pieces {
		data := bytes.Clone(piece) // it will be changed
		for {
			it, rest, f := p.next(data, most)
			if f != nil {
				return append(log, fmt.Sprintf("fault %d", f.code))
			}
			if it.op == 0 {
				break
			}
			log = append(log, fmt.Sprintf("%x %s", it.op, it.payload))
			data = rest
		}
	}
	if p.idle() && p.control == nil && p.message == nil {
		return log
	}
	return append(log, "unfinished")
}

func TestParser(t *testing.T) {
	long := strings.Repeat("x", 70_000)
	tests := []struct {
		name string
		in   [][]byte // frames
		want string
	}{
		{"nothing", nil, ""},
		{"text", [][]byte{client(ws.OpText, true, "hello")}, "1 hello"},
		{"empty text", [][]byte{client(ws.OpText, true, "")}, "1 "},
		{"two", [][]byte{client(ws.OpText, true, "a"), client(ws.OpText, true, "b")}, "1 a, 1 b"},
		{"longer", [][]byte{client(ws.OpText, true, long[:126])}, "1 " + long[:126]},
		{"longest", [][]byte{client(ws.OpText, true, long)}, "1 " + long},
		{"fragments", [][]byte{
			client(ws.OpText, false, "a"), client(ws.OpContinuation, false, ""), client(ws.OpPing, true, "p"),
			client(ws.OpContinuation, true, "b"),
		}, "9 p, 1 ab"},
		{"a character in two fragments", [][]byte{client(ws.OpText, false, "\xc3"), client(ws.OpContinuation, true, "\xa4")}, "1 ä"},
		{"part of a header", [][]byte{client(ws.OpText, true, "a")[:1]}, "unfinished"},
		{"part of a frame", [][]byte{client(ws.OpText, true, "abc")[:7]}, "unfinished"},
		{"part of a message", [][]byte{client(ws.OpText, false, "abc")}, "unfinished"},
		{"control", [][]byte{client(ws.OpPing, true, ""), client(ws.OpPong, true, "x"), client(ws.OpClose, true, "\x03\xe8bye")}, "9 , a x, 8 \x03\xe8bye"},
		{"close with a code of later", [][]byte{client(ws.OpClose, true, "\x03\xf4")}, "8 \x03\xf4"},
		{"close without code", [][]byte{client(ws.OpClose, true, "")}, "8 "},

		{"not masked", [][]byte{ws.MustCompileFrame(ws.NewTextFrame([]byte("a")))}, "fault 1002"},
		{"reserved bit", [][]byte{{0xc1, 0x80, 0, 0, 0, 0}}, "fault 1002"},
		{"reserved code", [][]byte{client(3, true, "a")}, "fault 1002"},
		{"long control", [][]byte{client(ws.OpPing, true, long[:126])}, "fault 1002"},
		{"fragmented control", [][]byte{client(ws.OpPing, false, "")}, "fault 1002"},
		{"continuation of nothing", [][]byte{client(ws.OpContinuation, true, "a")}, "fault 1002"},
		{"message within a message", [][]byte{client(ws.OpText, false, "a"), client(ws.OpText, true, "b")}, "fault 1002"},
		{"close with half a code", [][]byte{client(ws.OpClose, true, "\x03")}, "fault 1002"},
		{"close with a code of none", [][]byte{client(ws.OpClose, true, "\x03\xed")}, "fault 1002"},
		{"close with bad text", [][]byte{client(ws.OpClose, true, "\x03\xe8\xff")}, "fault 1002"},
		{"binary", [][]byte{client(ws.OpBinary, true, "a")}, "fault 1003"},
		{"bad text", [][]byte{client(ws.OpText, true, "\xff")}, "fault 1007"},
		{"too large", [][]byte{client(ws.OpText, true, long+"x")[:14]}, "fault 1009"},
		{"too large in parts", [][]byte{client(ws.OpText, false, long), client(ws.OpContinuation, true, "x")}, "fault 1009"},
		{"larger than any", [][]byte{{0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}}, "fault 1009"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			all := bytes.Join(tt.in, nil)
			if got := strings.Join(parse(&parser{}, len(long), all), ", "); got != tt.want {
				t.Errorf("at once: %.200q, want %.200q", got, tt.want)
			}
			if got := strings.Join(parse(&parser{}, len(long), slices.Collect(slices.Chunk(all, 1))...), ", "); got != tt.want {
				t.Errorf("byte by byte: %.200q, want %.200q", got, tt.want)
			}
		})
	}
}

// FuzzParser checks that it does not matter in which pieces bytes come, and
// that no more is kept than has come.
func FuzzParser(f *testing.F) {
	f.Add(client(ws.OpText, true, "hello"), uint8(1))
	f.Add(append(client(ws.OpText, false, "a"), client(ws.OpPing, true, "p")...), uint8(3))
	f.Add(client(ws.OpClose, true, "\x03\xe8bye"), uint8(4))
	f.Add([]byte{0x81, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}, uint8(2))
	f.Fuzz(func(t *testing.T, data []byte, size uint8) {
		const most = 1 << 10
		var one, other parser
		want := parse(&one, most, data)
		got := parse(&other, most, slices.Collect(slices.Chunk(data, int(size)+1))...)
		if !slices.Equal(got, want) {
			t.Errorf("in pieces of %d: %q, want %q", int(size)+1, got, want)
		}
		if kept := cap(other.message) + cap(other.control); kept > 2*len(data)+64 {
			t.Errorf("%d bytes are kept of %d", kept, len(data))
		}
	})
}
