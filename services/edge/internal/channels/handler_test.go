package channels_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/channels"
	"github.com/comet-push/comet/services/edge/internal/frame"
	"github.com/comet-push/comet/services/edge/internal/hold"
	"github.com/comet-push/comet/services/edge/internal/web"
)

// fakeEdge writes down what it is asked, and answers at once.
type fakeEdge struct {
	private  bool
	read     *channels.Request
	pub      *channels.Publication
	refusing *web.Problem
}

func (f *fakeEdge) MaySubscribe(names []string) (bool, *web.Problem) {
	for _, name := range names {
		if strings.HasPrefix(name, "/closed/") {
			return false, channels.Denied(channelv1.ErrorReason_ERROR_REASON_SUBSCRIBE_DENIED, name, "no")
		}
	}
	return !f.private, nil
}

func (f *fakeEdge) MayPublish(channel string) (int, *web.Problem) {
	if strings.HasPrefix(channel, "/closed/") {
		return 0, channels.Denied(channelv1.ErrorReason_ERROR_REASON_PUBLISH_DENIED, channel, "no")
	}
	return 100, nil
}

func (f *fakeEdge) Poll(x *channels.Exchange, r *channels.Request) {
	f.read = r
	if f.refusing != nil {
		x.Refuse(f.refusing)
		return
	}
	x.Batch([]byte(`{"messages":[],"cursor":"17"}`), "17")
}

func (f *fakeEdge) Stream(_ context.Context, number uint64, r *channels.Request) (*hold.Stream, *web.Problem) {
	f.read = r
	if f.refusing != nil {
		return nil, f.refusing
	}
	s := hold.NewStream(number, f)
	s.End(frame.Line([]byte(`{"type":"open"}`)))
	return s, nil
}

func (f *fakeEdge) Socket(
	ctx context.Context, number uint64, r *channels.Request,
) (*hold.Stream, hold.Receiver, *web.Problem) {
	s, p := f.Stream(ctx, number, r)
	return s, f, p
}

func (f *fakeEdge) Publish(x *channels.Exchange, p channels.Publication) {
	f.pub = &p
	x.Published(4, false, p.Read != nil)
	if p.Read != nil {
		x.Batch([]byte(`{"messages":[],"cursor":"17"}`), "17")
	}
}

func (f *fakeEdge) Message(uint64, []byte) {}

func (f *fakeEdge) Pong(uint64, []byte) {}
func (f *fakeEdge) Writable(uint64)     {}
func (f *fakeEdge) Ended(uint64, bool)  {}
func (f *fakeEdge) Drain(uint64)        {}

func newHandler(tb testing.TB, edge channels.Edge, change ...func(*channels.Config)) *channels.Handler {
	tb.Helper()
	origins, err := web.ParseOrigins([]string{"https://app.example"})
	if err != nil {
		tb.Fatal(err)
	}
	holder := hold.Waiting{WriteTimeout: time.Second}
	cfg := channels.Config{
		Origins: origins, PollTimeout: 30 * time.Second, ReadTimeout: time.Second, JSONP: true,
		Holder: holder, Streamer: holder, Number: func() uint64 { return 1 },
	}
	for _, c := range change {
		c(&cfg)
	}
	return channels.New(cfg, edge)
}

// ask makes a request; headers are names and values in turn.
func ask(tb testing.TB, h http.Handler, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	tb.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func reasonOf(w *httptest.ResponseRecorder) string {
	var p web.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		return fmt.Sprintf("%v in %q", err, w.Body)
	}
	if w.Header().Get("Content-Type") != "application/problem+json" || p.Status != w.Code || p.Title == "" || p.Detail == "" {
		return fmt.Sprintf("half a problem: %+v", p)
	}
	return p.Reason
}

func TestRead(t *testing.T) {
	poll := func(change func(r *channels.Request)) *channels.Request {
		r := &channels.Request{
			Transport: channels.Poll, Channels: []string{"/a"}, Since: shard.Since{Earliest: true},
			Wait: 30 * time.Second, Limit: 100, Public: true,
		}
		change(r)
		return r
	}
	as := func(transport channels.Transport, callback string, padding int) *channels.Request {
		return poll(func(r *channels.Request) {
			r.Transport, r.Since, r.Callback, r.Padding = transport, shard.Since{}, callback, padding
		})
	}
	read := func(names ...string) *channels.Request { return poll(func(r *channels.Request) { r.Channels = names }) }
	many := ""
	for i := range 64 {
		many += fmt.Sprintf("&channel=/c%d&channel=/c%d", i, i)
	}
	tests := []struct {
		target  string
		headers []string
		want    *channels.Request
	}{
		{"/channels/a", nil, read("/a")},
		{"/channels/a/b/c", nil, read("/a/b/c")},
		{"/channels/a%20b/%7Ec", nil, read("/a b/~c")},
		{"/channels/a/*", nil, read("/a/*")},
		{"/channels/**", nil, read("/**")},
		{"/channels?channel=/a&channel=/b/**&channel=%2Fa", nil, read("/a", "/b/**")},
		{"/channels?channel=/a+b", nil, read("/a b")},
		{"/channels?channel=/..", nil, read("/..")},
		{"/channels?transport=poll" + many, nil, poll(func(r *channels.Request) {
			r.Channels = nil
			for i := range 64 {
				r.Channels = append(r.Channels, fmt.Sprintf("/c%d", i))
			}
		})},
		{"/channels/a?transport=long-poll", nil, as(channels.LongPoll, "", 0)},
		{"/channels/a?transport=long-poll&wait=0", nil, poll(func(r *channels.Request) {
			r.Transport, r.Since, r.Wait = channels.LongPoll, shard.Since{}, 0
		})},
		{"/channels/a?transport=long-poll&wait=30&limit=1000", nil, poll(func(r *channels.Request) {
			r.Transport, r.Since, r.Limit = channels.LongPoll, shard.Since{}, 1000
		})},
		{"/channels/a?transport=sse", nil, as(channels.SSE, "", 0)},
		{"/channels/a?transport=stream&padding=4096", nil, as(channels.Stream, "", 4096)},
		{"/channels/a?transport=multipart", nil, as(channels.Multipart, "", 0)},
		{"/channels/a?transport=frame", nil, as(channels.Frame, "comet", 1024)},
		{"/channels/a?transport=frame&callback=a.b.$c&padding=0", nil, as(channels.Frame, "a.b.$c", 0)},
		{"/channels/a?transport=jsonp", nil, as(channels.JSONP, "jsonpcallback", 0)},
		{"/channels/a?transport=jsonp&jsonp=_f", nil, as(channels.JSONP, "_f", 0)},
		{"/channels/a", []string{"Accept", "text/event-stream"}, as(channels.SSE, "", 0)},
		{"/channels/a", []string{"Accept", "text/html, application/x-ndjson;q=0.5, */*"}, as(channels.Stream, "", 0)},
		{"/channels/a", []string{"Accept", "multipart/x-mixed-replace"}, as(channels.Multipart, "", 0)},
		{"/channels/a", []string{"Accept", "text/event-stream;q=0, */*"}, read("/a")},
		{"/channels/a", []string{"Accept", "application/json"}, read("/a")},
		{"/channels/a?transport=poll", []string{"Accept", "text/event-stream"}, read("/a")},
		{"/channels/a?transport=poll", []string{"Upgrade", "websocket", "Connection", "Upgrade"}, read("/a")},
		{"/channels/a?since=17", nil, poll(func(r *channels.Request) {
			r.Since = shard.Since{At: map[shard.Slot]uint64{shard.Of("/a"): 17}}
		})},
		{"/channels/a?since=latest", nil, poll(func(r *channels.Request) { r.Since = shard.Since{} })},
		{"/channels/a?since=latest&transport=sse", []string{"Last-Event-ID", "earliest"}, poll(func(r *channels.Request) {
			r.Transport = channels.SSE
		})},
		{"/channels/a", []string{"Last-Event-ID", "17"}, read("/a")},
		{"/channels/a", []string{"Authorization", "Basic eDp5"}, read("/a")},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%.60s %v", tt.target, tt.headers), func(t *testing.T) {
			edge := &fakeEdge{}
			w := ask(t, newHandler(t, edge), http.MethodGet, tt.target, "", tt.headers...)
			if diff := cmp.Diff(tt.want, edge.read); diff != "" || w.Code != http.StatusOK {
				t.Errorf("status %d, %s\n%s", w.Code, w.Body, diff)
			}
		})
	}
}

func TestUpgrade(t *testing.T) {
	edge := &fakeEdge{}
	for _, target := range []string{"/channels/a", "/channels/a?transport=ws"} {
		edge.read = nil
		ask(t, newHandler(t, edge), http.MethodGet, target, "", "Upgrade", "WebSocket", "Connection", "keep-alive, Upgrade",
			"Accept", "text/event-stream")
		if edge.read == nil || edge.read.Transport != channels.WebSocket {
			t.Errorf("%s: %+v", target, edge.read)
		}
	}
	w := ask(t, newHandler(t, edge), http.MethodGet, "/channels/a?transport=ws", "")
	if w.Header().Get("Upgrade") != "websocket" {
		t.Errorf("header %v", w.Header())
	}
}

func TestRefusals(t *testing.T) {
	many := ""
	for i := range 65 {
		many += fmt.Sprintf("&channel=/c%d", i)
	}
	long := strings.Repeat("x", 65)
	tests := []struct {
		method, target string
		headers        []string
		status         int
		reason         string
		detail         string // a part of it
	}{
		{"GET", "/channels", nil, 400, "CHANNEL_INVALID", "name a channel"},
		{"GET", "/channels/", nil, 400, "CHANNEL_INVALID", "empty segment"},
		{"GET", "/channels/a/", nil, 400, "CHANNEL_INVALID", "empty segment"},
		{"GET", "/channels//a", nil, 400, "CHANNEL_INVALID", "empty segment"},
		{"GET", "/channels/a//b", nil, 400, "CHANNEL_INVALID", "empty segment"},
		{"GET", "/channels/a%2Fb", nil, 400, "CHANNEL_INVALID", "%2F"},
		{"GET", "/channels/a%2fb", nil, 400, "CHANNEL_INVALID", "%2F"},
		{"GET", "/channels/./a", nil, 400, "CHANNEL_INVALID", "cannot be ."},
		{"GET", "/channels/a/../b", nil, 400, "CHANNEL_INVALID", "cannot be .."},
		{"GET", "/channels/a/%2e%2E/b", nil, 400, "CHANNEL_INVALID", "cannot be .."},
		{"GET", "/channels/a/*/b", nil, 400, "CHANNEL_INVALID", "wildcard"},
		{"GET", "/channels/a&b", nil, 400, "CHANNEL_INVALID", "not allowed"},
		{"GET", "/channels/%00", nil, 400, "CHANNEL_INVALID", "not allowed"},
		{"GET", "/channels/meta/connect", nil, 400, "CHANNEL_INVALID", "reserved"},
		{"GET", "/channels/meta", nil, 400, "CHANNEL_INVALID", "reserved"},
		{"GET", "/channels/@presence/events/0", nil, 400, "CHANNEL_INVALID", "reserved"},
		{"GET", "/channels/%40presence/**", nil, 400, "CHANNEL_INVALID", "reserved"},
		{"GET", "/channels/" + strings.Repeat("x", 257), nil, 400, "CHANNEL_INVALID", "256"},
		{"GET", "/channels" + strings.Repeat("/x", 33), nil, 400, "CHANNEL_INVALID", "segments"},
		{"GET", "/channels?channel=a", nil, 400, "CHANNEL_INVALID", "begin with /"},
		{"GET", "/channels?channel=", nil, 400, "CHANNEL_INVALID", "empty"},
		{"GET", "/channels/a?channel=/b", nil, 400, "CHANNEL_INVALID", "not both"},
		{"GET", "/%63hannels/a", nil, 400, "CHANNEL_INVALID", "percent-encoded"},
		{"GET", "/channels?x=1" + many, nil, 400, "PARAMETER_INVALID", "unknown"},
		{"GET", "/channels?limit=1" + many, nil, 400, "TOO_MANY_CHANNELS", "64"},
		{"GET", "/channels/a?transprot=sse", nil, 400, "PARAMETER_INVALID", "did you mean transport?"},
		{"GET", "/channels/a?cursor=1", nil, 400, "PARAMETER_INVALID", "choose from channel, transport, since,"},
		{"GET", "/channels/a?colour=red", nil, 400, "PARAMETER_INVALID", "choose from "},
		{"GET", "/channels/a?wiat=3", nil, 400, "PARAMETER_INVALID", "did you mean wait?"},
		{"GET", "/channels/a?=", nil, 400, "PARAMETER_INVALID", "choose from "},
		{"GET", "/channels/a?" + strings.Repeat("x", 9999), nil, 400, "PARAMETER_INVALID", "choose from "},
		{"GET", "/channels/a?Since=1", nil, 400, "PARAMETER_INVALID", "did you mean since?"},
		{"GET", "/channels/a?since=1&since=1", nil, 400, "PARAMETER_INVALID", "2 times"},
		{"GET", "/channels/a?transport=sse&transport=sse", nil, 400, "PARAMETER_INVALID", "2 times"},
		{"GET", "/channels/a?since=%zz", nil, 400, "PARAMETER_INVALID", "encoded"},
		{"GET", "/channels/a?a;b", nil, 400, "PARAMETER_INVALID", "encoded"},
		{"GET", "/channels/a?wait=31", nil, 400, "PARAMETER_INVALID", "from 0 to 30"},
		{"GET", "/channels/a?wait=-1", nil, 400, "PARAMETER_INVALID", "from 0 to 30"},
		{"GET", "/channels/a?wait=1.5", nil, 400, "PARAMETER_INVALID", "whole number"},
		{"GET", "/channels/a?wait=", nil, 400, "PARAMETER_INVALID", "whole number"},
		{"GET", "/channels/a?limit=0", nil, 400, "PARAMETER_INVALID", "from 1 to 1000"},
		{"GET", "/channels/a?limit=1001", nil, 400, "PARAMETER_INVALID", "from 1 to 1000"},
		{"GET", "/channels/a?padding=4097", nil, 400, "PARAMETER_INVALID", "from 0 to 4096"},
		{"GET", "/channels/a?transport=jsonp&jsonp=alert(1)", nil, 400, "PARAMETER_INVALID", "identifier"},
		{"GET", "/channels/a?transport=jsonp&jsonp=" + long, nil, 400, "PARAMETER_INVALID", "identifier"},
		{"GET", "/channels/a?callback=a..b", nil, 400, "PARAMETER_INVALID", "identifier"},
		{"GET", "/channels/a?since=", nil, 400, "CURSOR_INVALID", "empty"},
		{"GET", "/channels/a?since=~AQ", nil, 400, "CURSOR_INVALID", "earliest"},
		{"GET", "/channels/a?since=12345678901234567", nil, 400, "CURSOR_INVALID", "16"},
		{"GET", "/channels/a/*?since=17", nil, 400, "CURSOR_INVALID", "~"},
		{"GET", "/channels/a?transport=sse", []string{"Last-Event-ID", "x"}, 400, "CURSOR_INVALID", ""},
		{"GET", "/channels/a?transport=smoke", nil, 406, "TRANSPORT_UNKNOWN", "long-poll"},
		{"GET", "/channels/a?transport=", nil, 406, "TRANSPORT_UNKNOWN", ""},
		{"GET", "/channels/a?transport=ws", nil, 426, "UPGRADE_REQUIRED", "WebSocket"},
		{"GET", "/channels/a?transport=ws", []string{"Upgrade", "websocket"}, 426, "UPGRADE_REQUIRED", ""},
		{"HEAD", "/channels/a?transport=ws", []string{"Upgrade", "websocket", "Connection", "upgrade"}, 426, "UPGRADE_REQUIRED", ""},
		{"GET", "/channels/a?token=x", nil, 401, "UNAUTHENTICATED", "without one"},
		{"GET", "/channels/a", []string{"Authorization", "bearer x"}, 401, "UNAUTHENTICATED", "without one"},
		{"GET", "/channels/closed/a", nil, 403, "SUBSCRIBE_DENIED", "no"},
		{"GET", "/channels/service/a", nil, 403, "SUBSCRIBE_DENIED", "backends"},
		{"GET", "/channels/service/**", nil, 403, "SUBSCRIBE_DENIED", "backends"},
		{"GET", "/channels/a", []string{"Origin", "https://evil.test"}, 403, "ORIGIN_DENIED", "allowed-origins"},
		{"GET", "/channels/a", []string{"Origin", "null"}, 403, "ORIGIN_DENIED", ""},
		{"GET", "/channels/a", []string{"Origin", "https://evil.test", "Upgrade", "websocket", "Connection", "upgrade"}, 403, "ORIGIN_DENIED", ""},
		{"GET", "/channels/a?transport=jsonp", []string{"Referer", "https://evil.test/"}, 403, "ORIGIN_DENIED", ""},
		{"GET", "/channels/a?transport=jsonp", []string{"Sec-Fetch-Site", "cross-site"}, 403, "ORIGIN_DENIED", ""},
		{"POST", "/channels/a", []string{"Origin", "https://evil.test"}, 403, "ORIGIN_DENIED", ""},
		{"PUT", "/channels/a", nil, 405, "METHOD_NOT_ALLOWED", "POST"},
		{"DELETE", "/channels/a", nil, 405, "METHOD_NOT_ALLOWED", ""},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s %.60s %v", tt.method, tt.target, tt.headers), func(t *testing.T) {
			edge, counted := &fakeEdge{}, ""
			h := newHandler(t, edge, func(c *channels.Config) { c.Refused = func(reason string) { counted = reason } })
			w := ask(t, h, tt.method, tt.target, "", tt.headers...)
			if got := reasonOf(w); w.Code != tt.status || got != tt.reason || counted != tt.reason || !strings.Contains(w.Body.String(), tt.detail) {
				t.Errorf("status %d, %s, counted %s", w.Code, w.Body, counted)
			}
			if edge.read != nil || edge.pub != nil {
				t.Error("it reached the edge")
			}
			if cache := w.Header().Get("Cache-Control"); !strings.Contains(cache, "no-store") || w.Header().Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("header %v", w.Header())
			}
			switch {
			case tt.status == 405 && w.Header().Get("Allow") != "GET, HEAD, POST, OPTIONS",
				tt.status == 401 && w.Header().Get("WWW-Authenticate") != "Bearer",
				tt.status == 426 && w.Header().Get("Upgrade") != "websocket":
				t.Errorf("header %v", w.Header())
			}
		})
	}
}

func serve(h http.Handler, r *http.Request, body string) *httptest.ResponseRecorder {
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}
