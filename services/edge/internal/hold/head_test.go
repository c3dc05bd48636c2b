package hold

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestHeads(t *testing.T) {
	h := newHeads()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	const date = "Date: Fri, 02 Jan 2026 03:04:05 GMT\r\n"
	stream, exchange := byEngine()
	header := http.Header{
		"Cache-Control": {"no-store"}, "Vary": {"Origin", "Accept"}, "Content-Type": {"text/event-stream"},
		"Connection": {"close"}, "Content-Length": {"1"}, "X-Bad": {"a\r\nInjected: b"},
	}
	fields := *h.fields(header, exchange)
	tests := []struct{ name, got, want string }{
		{"stream", string(h.stream(nil, false, *h.fields(header, stream), now)), "HTTP/1.1 200 OK\r\n" + date +
			"Cache-Control: no-store\r\nContent-Type: text/event-stream\r\nVary: Origin\r\nVary: Accept\r\nX-Bad: a  Injected: b\r\n" +
			"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"},
		{"stream to an old client", string(h.stream(nil, true, "", now)), "HTTP/1.0 200 OK\r\n" + date + "Connection: close\r\n\r\n"},
		{
			"reply", string(h.reply(nil, false, fields, Reply{Status: 200, Type: "a/b", Body: []byte("body")}, now)),
			"HTTP/1.1 200 OK\r\n" + date + "Cache-Control: no-store\r\nVary: Origin\r\nVary: Accept\r\nX-Bad: a  Injected: b\r\n" +
				"Content-Type: a/b\r\nContent-Length: 4\r\n\r\nbody",
		},
		{
			"last reply", string(h.reply(nil, true, "", Reply{Status: 503, Type: "a/b", Close: true}, now)),
			"HTTP/1.0 503 Service Unavailable\r\n" + date + "Content-Type: a/b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
		},
		{
			"without a body", string(h.reply(nil, false, "", Reply{Status: 304, Type: "a/b", Body: []byte("body")}, now)),
			"HTTP/1.1 304 Not Modified\r\n" + date + "\r\n",
		},
		{
			"the reply's fields win", string(h.reply(nil, false, "A: 1\r\nB: 2\r\nB: 3\r\n",
				Reply{Status: 200, Type: "a/b", Header: http.Header{"B": {"4"}, "C": {"5"}}}, now)),
			"HTTP/1.1 200 OK\r\n" + date + "A: 1\r\nB: 4\r\nC: 5\r\nContent-Type: a/b\r\nContent-Length: 0\r\n\r\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", tt.got, tt.want)
			}
		})
	}
}

func TestHeadsAreShared(t *testing.T) {
	h := newHeads()
	one, other := h.fields(http.Header{"A": {"1"}}, nil), h.fields(http.Header{"A": {"1"}}, nil)
	if one != other || *one != "A: 1\r\n" {
		t.Errorf("%p %q, %p %q", one, *one, other, *other)
	}
	h.fields(http.Header{"Set-Cookie": {"a=b"}}, nil)
	h.fields(http.Header{"A": {strings.Repeat("x", commonBytes)}}, nil)
	if len(h.common) != 1 {
		t.Errorf("%d are kept", len(h.common))
	}
	for i := range 2 * commonHeads {
		h.fields(http.Header{"A": {fmt.Sprint(i)}}, nil)
	}
	if len(h.common) > commonHeads {
		t.Errorf("%d are kept", len(h.common))
	}
}
