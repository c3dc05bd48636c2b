package channels_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/channels"
	"github.com/comet-push/comet/services/edge/internal/web"
)

func TestPublish(t *testing.T) {
	key := strings.Repeat("k", 128)
	tests := []struct {
		name, target, body string
		headers            []string
		want               *channels.Publication // nil: refused
		status             int
		reason             string
	}{
		{
			"data", "/channels/a", " [1]\r\n",
			[]string{"Content-Type", "application/json"},
			&channels.Publication{Channel: "/a", Data: []byte("[1]")}, 200, `{"position":4,"duplicate":false}`,
		},
		{
			"charset and key", "/channels/a", "1",
			[]string{"Content-Type", "Application/JSON; charset=UTF-8", "Idempotency-Key", key},
			&channels.Publication{Channel: "/a", Data: []byte("1"), Key: key}, 200, `{"position":4,"duplicate":false}`,
		},
		{
			"with a poll", "/channels/a?since=17&limit=5", "1",
			[]string{"Content-Type", "application/json"},
			&channels.Publication{Channel: "/a", Data: []byte("1"), Read: &channels.Request{
				Channels: []string{"/a"}, Limit: 5, Public: true,
				Since: shard.Since{At: map[shard.Slot]uint64{shard.Of("/a"): 17}},
			}}, 200, `{"position":4,"duplicate":false,"messages":[],"cursor":"17"}`,
		},
		{
			"with a poll of others", "/channels/a?since=latest&channel=/b&channel=/c/*", "1",
			[]string{"Content-Type", "application/json"},
			&channels.Publication{Channel: "/a", Data: []byte("1"), Read: &channels.Request{
				Channels: []string{"/b", "/c/*"}, Limit: 100, Public: true,
			}}, 200, `{"position":4,"duplicate":false,"messages":[],"cursor":"17"}`,
		},
		{
			"to a service", "/channels/service/a", "1",
			[]string{"Content-Type", "application/json"},
			&channels.Publication{Channel: "/service/a", Data: []byte("1")}, 200, `{"position":4,"duplicate":false}`,
		},
		{"no channel", "/channels", "1", []string{"Content-Type", "application/json"}, nil, 400, "CHANNEL_INVALID"},
		{"channel as parameter", "/channels?channel=/a", "1", []string{"Content-Type", "application/json"}, nil, 400, "CHANNEL_INVALID"},
		{"pattern", "/channels/a/*", "1", []string{"Content-Type", "application/json"}, nil, 400, "CHANNEL_INVALID"},
		{"meta", "/channels/meta/x", "1", []string{"Content-Type", "application/json"}, nil, 400, "CHANNEL_INVALID"},
		{"private", "/channels/@presence/events/0", "1", []string{"Content-Type", "application/json"}, nil, 400, "CHANNEL_INVALID"},
		{"denied", "/channels/closed/a", "1", []string{"Content-Type", "application/json"}, nil, 403, "PUBLISH_DENIED"},
		{"token", "/channels/a?token=x", "1", []string{"Content-Type", "application/json"}, nil, 401, "UNAUTHENTICATED"},
		{"no type", "/channels/a", "1", nil, nil, 415, "CONTENT_TYPE_UNSUPPORTED"},
		{"text", "/channels/a", "1", []string{"Content-Type", "text/plain"}, nil, 415, "CONTENT_TYPE_UNSUPPORTED"},
		{"charset", "/channels/a", "1", []string{"Content-Type", "application/json; charset=latin1"}, nil, 415, "CONTENT_TYPE_UNSUPPORTED"},
		{"gzip", "/channels/a", "1", []string{"Content-Type", "application/json", "Content-Encoding", "gzip"}, nil, 415, "CONTENT_TYPE_UNSUPPORTED"},
		{"empty", "/channels/a", "", []string{"Content-Type", "application/json"}, nil, 400, "DATA_INVALID"},
		{"two values", "/channels/a", "1 2", []string{"Content-Type", "application/json"}, nil, 400, "DATA_INVALID"},
		{"not UTF-8", "/channels/a", "\"\xff\"", []string{"Content-Type", "application/json"}, nil, 400, "DATA_INVALID"},
		{"deep", "/channels/a", strings.Repeat("[", 65) + strings.Repeat("]", 65)[:35], []string{"Content-Type", "application/json"}, nil, 400, "DATA_INVALID"},
		{"too large", "/channels/a", strings.Repeat("1", 101), []string{"Content-Type", "application/json"}, nil, 413, "MESSAGE_TOO_LARGE"},
		{"long key", "/channels/a", "1", []string{"Content-Type", "application/json", "Idempotency-Key", key + "k"}, nil, 400, "PARAMETER_INVALID"},
		{"key not UTF-8", "/channels/a", "1", []string{"Content-Type", "application/json", "Idempotency-Key", "\xff"}, nil, 400, "PARAMETER_INVALID"},
		{"two keys", "/channels/a", "1", []string{"Content-Type", "application/json", "Idempotency-Key", "a", "Idempotency-Key", "b"}, nil, 400, "PARAMETER_INVALID"},
		{"reader's parameter", "/channels/a?transport=sse", "1", []string{"Content-Type", "application/json"}, nil, 400, "PARAMETER_INVALID"},
		{"limit alone", "/channels/a?limit=5", "1", []string{"Content-Type", "application/json"}, nil, 400, "PARAMETER_INVALID"},
		{"channel alone", "/channels/a?channel=/b", "1", []string{"Content-Type", "application/json"}, nil, 400, "PARAMETER_INVALID"},
		{"cursor of others", "/channels/a?since=17&channel=/b/*", "1", []string{"Content-Type", "application/json"}, nil, 400, "CURSOR_INVALID"},
		{"read denied", "/channels/a?since=latest&channel=/closed/b", "1", []string{"Content-Type", "application/json"}, nil, 403, "SUBSCRIBE_DENIED"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			edge := &fakeEdge{}
			w := ask(t, newHandler(t, edge), http.MethodPost, tt.target, tt.body, tt.headers...)
			if diff := cmp.Diff(tt.want, edge.pub); diff != "" || w.Code != tt.status {
				t.Errorf("status %d, %s\n%s", w.Code, w.Body, diff)
			}
			if tt.want != nil {
				if w.Body.String() != tt.reason {
					t.Errorf("got %s", w.Body)
				}
				return
			}
			if got := reasonOf(w); got != tt.reason {
				t.Errorf("got %s, want %s", w.Body, tt.reason)
			}
		})
	}
}

func TestDrainingClosesConnections(t *testing.T) {
	h := newHandler(t, &fakeEdge{}, func(c *channels.Config) { c.Draining = func() bool { return true } })
	for _, target := range []string{"/channels/a", "/channels/", "/channels/a?transport=frame&since=x"} {
		if w := ask(t, h, http.MethodGet, target, ""); w.Header().Get("Connection") != "close" {
			t.Errorf("%s: %v", target, w.Header())
		}
	}
}

func TestBodyOfReader(t *testing.T) {
	w := ask(t, newHandler(t, &fakeEdge{}), http.MethodGet, "/channels/a", "{}")
	if got := reasonOf(w); got != "PARAMETER_INVALID" {
		t.Errorf("got %s", w.Body)
	}
}

func TestPrivatePollIsNotShared(t *testing.T) {
	w := ask(t, newHandler(t, &fakeEdge{private: true}), http.MethodGet, "/channels/a", "")
	if got := w.Header().Get("Cache-Control"); got != "private, no-cache" || w.Header().Get("ETag") != `"17"` {
		t.Errorf("header %v", w.Header())
	}
}

func TestHead(t *testing.T) {
	for transport, kind := range map[string]string{
		"poll": "application/json", "long-poll": "application/json", "jsonp": "text/javascript; charset=utf-8",
		"sse": "text/event-stream", "frame": "text/html; charset=utf-8",
	} {
		edge := &fakeEdge{}
		w := ask(t, newHandler(t, edge), http.MethodHead, "/channels/a?transport="+transport, "")
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != kind || w.Body.Len() > 0 || edge.read != nil {
			t.Errorf("%s: status %d, %v, %q", transport, w.Code, w.Header(), w.Body)
		}
	}
	if w := ask(t, newHandler(t, &fakeEdge{}), http.MethodHead, "/channels/closed/a", ""); w.Code != http.StatusForbidden {
		t.Errorf("status %d", w.Code)
	}
}

func TestOptionsAndOrigins(t *testing.T) {
	h := newHandler(t, &fakeEdge{})
	w := ask(t, h, http.MethodOptions, "/channels/a", "")
	if w.Code != http.StatusNoContent || w.Header().Get("Allow") != "GET, HEAD, POST, OPTIONS" {
		t.Errorf("status %d, %v", w.Code, w.Header())
	}
	w = ask(t, h, http.MethodOptions, "/channels/a", "", "Origin", "https://app.example",
		"Access-Control-Request-Method", "POST",
		"Access-Control-Request-Headers", "authorization,cache-control,content-type,idempotency-key,if-none-match,last-event-id")
	want := map[string]string{
		"Access-Control-Allow-Origin":      "https://app.example",
		"Access-Control-Allow-Methods":     "POST",
		"Access-Control-Allow-Headers":     "authorization,cache-control,content-type,idempotency-key,if-none-match,last-event-id",
		"Access-Control-Allow-Credentials": "true",
	}
	got := map[string]string{}
	for name := range want {
		got[name] = w.Header().Get(name)
	}
	if !maps.Equal(got, want) || w.Code != http.StatusNoContent {
		t.Errorf("status %d, %v", w.Code, w.Header())
	}
	w = ask(t, h, http.MethodGet, "/channels/a", "", "Origin", "https://app.example")
	if w.Header().Get("Access-Control-Expose-Headers") != "Etag, Retry-After" ||
		w.Header().Get("Access-Control-Allow-Origin") != "https://app.example" ||
		!strings.Contains(strings.Join(w.Header().Values("Vary"), ","), "Origin") {
		t.Errorf("header %v", w.Header())
	}
}

func problem(status int, reason channelv1.ErrorReason) *web.Problem {
	return web.NewProblem(status, reason, "no </script>")
}

// A frame is refused with a control object, an EventSource of a server that
// stops with an end, and everybody else with a status.
func TestRefusedStreams(t *testing.T) {
	draining := problem(http.StatusServiceUnavailable, channelv1.ErrorReason_ERROR_REASON_DRAINING)
	full := problem(http.StatusTooManyRequests, channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED)
	tests := []struct {
		transport, more string
		problem         *web.Problem
		headers         []string
		status          int
		want            string // in the body
	}{
		{"frame", "", draining, nil, 200, `c({"type":"end","reason":"draining","retry":`},
		{"frame", "", full, nil, 200, `c({"type":"end","reason":"limit","retry":`},
		{"frame", "", problem(503, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE), nil, 200, `c({"type":"end","reason":"error","retry":`},
		{"frame", "&channel=/closed/a", nil, nil, 200, `c({"type":"end","reason":"denied","detail":"no"})`},
		{"frame", "&token=x", nil, nil, 200, `c({"type":"end","reason":"denied","detail":"this server has nothing to check tokens with; `},
		{"frame", "", nil, []string{"Referer", "https://evil.test/"}, 200, `c({"type":"end","reason":"denied","detail":"the page that asks for `},
		{"frame", "&since=x", nil, nil, 200, `c({"type":"end","reason":"error","detail":"`},
		{"frame", "&</script>=x", nil, nil, 200, `,"detail":"unknown parameter \"\u003c/script\u003e\"; `},
		{"frame", "&callback=a(b)", nil, nil, 200, "parent.comet"},
		{"sse", "", draining, nil, 200, "event: comet\ndata: {\"type\":\"end\",\"reason\":\"draining\",\"retry\":"},
		{"sse", "", full, nil, 429, "LIMIT_EXCEEDED"},
		{"stream", "", draining, nil, 503, "DRAINING"},
		{"poll", "", draining, nil, 503, "DRAINING"},
		{"multipart", "", full, nil, 429, "LIMIT_EXCEEDED"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.transport, tt.more, " ", tt.status), func(t *testing.T) {
			h := newHandler(t, &fakeEdge{refusing: tt.problem})
			w := ask(t, h, http.MethodGet, "/channels?channel=/a&transport="+tt.transport+tt.more, "", tt.headers...)
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.want) {
				t.Errorf("status %d, %s", w.Code, w.Body)
			}
			if tt.status >= 429 && w.Header().Get("Retry-After") == "" {
				t.Errorf("header %v", w.Header())
			}
			if tt.transport == "frame" && !strings.HasPrefix(w.Header().Get("Content-Security-Policy"), "frame-ancestors 'self' https://app.example") {
				t.Errorf("header %v", w.Header())
			}
		})
	}
}

func TestParseMessage(t *testing.T) {
	m, p := channels.ParseMessage([]byte(`{"channel":"/a","data":{"b":1, "a":12345678901234567890},"id":"7","idempotencyKey":"k"}`))
	want := channels.Message{
		Publication: channels.Publication{Channel: "/a", Data: []byte(`{"b":1, "a":12345678901234567890}`), Key: "k"}, ID: "7",
	}
	if diff := cmp.Diff(want, m); diff != "" || p != nil {
		t.Errorf("%v\n%s", p, diff)
	}
	if m, p := channels.ParseMessage([]byte(`{"channel":"/a","data":null}`)); p != nil || string(m.Data) != "null" {
		t.Errorf("%v, %q", p, m.Data)
	}
	deep := strings.Repeat("[", 64) + strings.Repeat("]", 64)
	if _, p := channels.ParseMessage([]byte(`{"channel":"/a","data":` + deep + `}`)); p != nil {
		t.Errorf("%v", p)
	}
	if _, p := channels.ParseMessage([]byte(`{"channel":"/a","data":[` + deep + `]}`)); p == nil {
		t.Error("nested too deeply, and taken")
	}
}

func TestRefusedMessages(t *testing.T) {
	for text, want := range map[string]string{
		`x`:                                  `DATA_INVALID expected an object (at byte 0); send {"channel":"/a",`,
		`{"channel":"/a","data":1,}`:         `DATA_INVALID `,
		`{"channel":"/a","id":"9"}`:          `DATA_INVALID the message has no data; send null for nothing`,
		`{"channel":"/a","data":1,"id":7}`:   `PARAMETER_INVALID the id is a number; send a string, as in "id":"7"`,
		`{"channel":"/a","data":1,"id":{}}`:  `PARAMETER_INVALID the id is an object; send a string, as in "id":"7"`,
		`{"channel":7,"data":1}`:             `PARAMETER_INVALID the channel is a number; send a string, as in "channel":"/a"`,
		`{"channel":null,"data":1}`:          `CHANNEL_INVALID `,
		`{"channel":"/a","data":1,"Id":"7"}`: `PARAMETER_INVALID unknown member "Id" of a message; did you mean id?`,
		`{"channel":"/a","data":1,"type":1}`: `PARAMETER_INVALID unknown member "type" of a message; choose from channel, data, id, idempotencyKey`,
		`{"channel":"/a","data":1,"idempotencyKey":7}`: `PARAMETER_INVALID the idempotencyKey is a number; ` +
			`send a string, as in "idempotencyKey":"k7"`,
	} {
		_, p := channels.ParseMessage([]byte(text))
		if p == nil || !strings.HasPrefix(p.Reason+" "+p.Detail, want) || strings.Contains(p.Detail, "json:") {
			t.Errorf("%s: %+v, want %s", text, p, want)
		}
	}
	m, p := channels.ParseMessage([]byte(`{"channel":"/a","data":1,"id":"9","colour":"red"}`))
	if m.ID != "9" || p == nil {
		t.Errorf("refused as %q, %v", m.ID, p)
	}
}

// FuzzRequest: whatever comes, there is an answer; what reaches the edge is in
// its bounds, and what is refused is refused with a reason.
func FuzzRequest(f *testing.F) {
	f.Add("GET", "/a", "transport=sse&since=17", "text/event-stream", "17", "")
	f.Add("GET", "", "channel=/a&channel=/b/**&limit=5&wait=3&padding=9", "", "", "")
	f.Add("GET", "/a", "transport=frame&callback=a.b", "", "", "")
	f.Add("GET", "/a%2Fb/../c", "transport=jsonp&jsonp=f", "", "", "")
	f.Add("POST", "/a", "since=17&channel=/b", "", "", `{"a":1}`)
	f.Add("HEAD", "/**", "", "*/*", "~AQ", "")
	f.Fuzz(func(t *testing.T, method, path, query, accept, last, body string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://edge.test/channels", nil)
		if err != nil {
			t.Fatal(err)
		}
		if r.URL, err = r.URL.Parse("/channels" + path + "?" + query); err != nil || r.URL.Host != "edge.test" {
			return // net/http would not have taken it
		}
		edge := &fakeEdge{}
		r.Method = method
		r.Header = http.Header{"Accept": {accept}, "Last-Event-Id": {last}, "Content-Type": {"application/json"}}
		w := serve(newHandler(t, edge), r, body)
		if w.Code == http.StatusOK || w.Code == http.StatusNoContent {
			checkReached(t, edge, method)
			return
		}
		if reason := reasonOf(w); reason == "" || strings.Contains(reason, " ") {
			t.Errorf("status %d: %s", w.Code, reason)
		}
		if location := w.Header().Get("Location"); location != "" {
			t.Errorf("redirected to %s", location)
		}
	})
}

func checkReached(t *testing.T, edge *fakeEdge, method string) {
	t.Helper()
	if req := edge.read; req != nil {
		if len(req.Channels) < 1 || len(req.Channels) > 64 || req.Limit < 1 || req.Limit > 1000 ||
			req.Wait < 0 || req.Padding < 0 || req.Padding > 4096 {
			t.Errorf("out of bounds: %+v", req)
		}
		for _, name := range req.Channels {
			if !utf8.ValidString(name) || strings.HasPrefix(name, "/meta/") || strings.HasPrefix(name, "/service/") || strings.HasPrefix(name, "/@") {
				t.Errorf("channel %q", name)
			}
		}
	}
	if pub := edge.pub; pub != nil && (method != http.MethodPost || !json.Valid(pub.Data) || len(pub.Data) > 100) {
		t.Errorf("published %+v", pub)
	}
}

func FuzzParseMessage(f *testing.F) {
	f.Add(`{"channel":"/a","data":{"b":1},"id":"7","idempotencyKey":"k"}`)
	f.Add(`[]`)
	f.Fuzz(func(t *testing.T, text string) {
		m, p := channels.ParseMessage([]byte(text))
		if p == nil && (!json.Valid(m.Data) || !strings.HasPrefix(m.Channel, "/")) {
			t.Errorf("%q: %+v", text, m)
		}
		if answer := channels.AppendRefused(nil, m.ID, &web.Problem{}); !json.Valid(answer) {
			t.Errorf("answered %s", answer)
		}
	})
}
