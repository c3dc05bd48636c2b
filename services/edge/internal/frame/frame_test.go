package frame_test

import (
	"bytes"
	"io"
	"net/http/httputil"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/comet-push/comet/services/edge/internal/frame"
)

// What net/http reads from the wire is the payload.
func TestChunk(t *testing.T) {
	for _, payload := range []string{"a", strings.Repeat("b", 15), strings.Repeat("c", 16), strings.Repeat("d", 70_000)} {
		f := frame.Chunk([]byte(payload))
		got, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(append(f.Wire(), "0\r\n\r\n"...))))
		if err != nil || string(got) != payload || string(f.Payload()) != payload || f.Len() != len(f.Wire()) {
			t.Errorf("%d bytes: read %d, payload %d, %v", len(payload), len(got), len(f.Payload()), err)
		}
	}
}

func TestForms(t *testing.T) {
	object := []byte("{\n}")
	tests := []struct {
		name string
		f    *frame.Frame
		want string
	}{
		{"event", frame.SSE("", "7", object), "id: 7\ndata: { }\n\n"},
		{"event without id", frame.SSE("", "", object), "data: { }\n\n"},
		{"event with a name", frame.SSE("comet", "~A", object), "event: comet\nid: ~A\ndata: { }\n\n"},
		{"retry", frame.SSERetry(1500*time.Millisecond, "comet", "", object), "retry: 1500\nevent: comet\ndata: { }\n\n"},
		{"line", frame.Line(object), "{ }\n"},
		{"lines of others", frame.Line([]byte("[1,\r\n2]")), "[1,  2]\n"},
		{"first part", frame.FirstPart(object), "--comet\r\nContent-Type: application/json\r\n\r\n{\n}\r\n--comet\r\n"},
		{"part", frame.Part(object), "Content-Type: application/json\r\n\r\n{\n}\r\n--comet\r\n"},
		{"last part", frame.LastPart(object), "Content-Type: application/json\r\n\r\n{\n}\r\n--comet--\r\n"},
		{"script", frame.Script(object), "<script>c({\n})</script>\n"},
		{"raw", frame.Raw(object), "{\n}"},
		{"text", frame.Text(object), "{\n}"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(tt.f.Payload()); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	if string(object) != "{\n}" {
		t.Error("what was given has been changed")
	}
}

func TestSocketFrames(t *testing.T) {
	tests := []struct {
		name   string
		f      *frame.Frame
		opcode ws.OpCode
		want   string
	}{
		{"text", frame.Text([]byte("{}")), ws.OpText, "{}"},
		{"long text", frame.Text(bytes.Repeat([]byte("1"), 70_000)), ws.OpText, strings.Repeat("1", 70_000)},
		{"ping", frame.Ping(), ws.OpPing, ""},
		{"close", frame.Close(1012, "draining"), ws.OpClose, "\x03\xf4draining"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			read, err := ws.ReadFrame(bytes.NewReader(tt.f.Wire()))
			if err != nil {
				t.Fatal(err)
			}
			if read.Header.OpCode != tt.opcode || !read.Header.Fin || read.Header.Masked || string(read.Payload) != tt.want {
				t.Errorf("read %+v with %d bytes", read.Header, len(read.Payload))
			}
			if string(tt.f.Payload()) != tt.want {
				t.Errorf("the payload has %d bytes", len(tt.f.Payload()))
			}
		})
	}
}
