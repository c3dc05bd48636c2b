package transport_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/bayeux"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/services/edge/internal/hold"
	"github.com/comet-push/comet/services/edge/internal/transport"
	"github.com/comet-push/comet/services/edge/internal/web"
)

// fakeSessions answers every request at once with successful replies, unless
// it is told to hold them.
type fakeSessions struct {
	hold bool

	mu      sync.Mutex
	got     []transport.Request
	held    []*hold.Exchange
	written int
	lost    int
}

func (f *fakeSessions) Receive(e *hold.Exchange, r transport.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e.Own(f)
	f.got = append(f.got, r)
	if f.hold {
		f.held = append(f.held, e)
		return
	}
	var replies []bayeux.Message
	for _, m := range r.Messages {
		replies = append(replies, m.Reply(nil))
	}
	e.Answer(hold.Answer{Status: http.StatusOK, Body: bayeux.AppendBatch(nil, replies)})
}

func (f *fakeSessions) Open(uint64, string) (*hold.Stream, hold.Receiver, *web.Problem) {
	return nil, nil, web.NewProblem(http.StatusServiceUnavailable, channelv1.ErrorReason_ERROR_REASON_DRAINING, "no")
}

func (f *fakeSessions) Written(uint64) { f.mu.Lock(); defer f.mu.Unlock(); f.written++ }
func (f *fakeSessions) Drain(uint64)   {}
func (f *fakeSessions) Lost(uint64)    { f.mu.Lock(); defer f.mu.Unlock(); f.lost++ }

func newHandler(tb testing.TB, s transport.Sessions, origins ...string) *transport.Handler {
	tb.Helper()
	o, err := web.ParseOrigins(origins)
	if err != nil {
		tb.Fatal(err)
	}
	var numbers atomic.Uint64
	return transport.New(transport.Config{
		Origins:     o,
		ReadTimeout: 10 * time.Second,
		Holder:      hold.Waiting{WriteTimeout: 10 * time.Second},
		Streamer:    hold.Waiting{WriteTimeout: 10 * time.Second},
		Number:      func() uint64 { return numbers.Add(1) },
		JSONP:       true,
	}, s)
}

const connect = `[{"id":"3","channel":"/meta/connect","connectionType":"long-polling","clientId":"x"}]`

func TestRequests(t *testing.T) {
	big := `[{"channel":"/a","data":"` + strings.Repeat("x", 2<<20) + `"}]`
	batch := "[" + strings.Repeat(`{"channel":"/a"},`, 9_999) + `{"channel":"/a"}]`
	deep := strings.Repeat("[", 1000) + strings.Repeat("]", 1000)
	tests := []struct {
		name        string
		method      string
		path        string
		contentType string
		body        string
		wantStatus  int
		wantReason  string // of the problem document, if any
	}{
		{"bare path", "POST", "/cometd", "application/json", connect, 200, ""},
		{"slash", "POST", "/cometd/", "application/json", connect, 200, ""},
		{"handshake suffix", "POST", "/cometd/handshake", "application/json", connect, 200, ""},
		{"connect suffix", "POST", "/cometd/connect", "application/json", connect, 200, ""},
		{"disconnect suffix", "POST", "/cometd/disconnect", "application/json", connect, 200, ""},
		{"unclean path", "POST", "/cometd//connect", "application/json", connect, 200, ""},
		{"dots in the path", "POST", "/cometd/../cometd/", "application/json", connect, 200, ""},
		{"charset", "POST", "/cometd", "application/json;charset=UTF-8", connect, 200, ""},
		{"no type", "POST", "/cometd", "", connect, 200, ""},
		{"text", "POST", "/cometd", "text/plain;charset=UTF-8", connect, 200, ""},
		{"foreign type, JSON body", "POST", "/cometd", "application/xml", connect, 200, ""},
		{"bare object", "POST", "/cometd", "application/json", connect[1 : len(connect)-1], 200, ""},
		{"form", "POST", "/cometd", "application/x-www-form-urlencoded", "message=%5B%7B%22channel%22%3A%22%2Fa%22%7D%5D", 200, ""},
		{"form as text", "POST", "/cometd", "text/plain;charset=UTF-8", "message=%5B%7B%22channel%22%3A%22%2Fa%22%7D%5D", 200, ""},
		{"form with two", "POST", "/cometd", "", "message=%5B%7B%7D%5D&message=%7B%7D", 200, ""},
		{"form without message", "POST", "/cometd", "application/x-www-form-urlencoded", "a=b", 400, "JSON_INVALID"},
		{"other charset", "POST", "/cometd", "application/json;charset=ISO-8859-1", connect, 415, "CONTENT_TYPE_UNSUPPORTED"},
		{"wrong type", "POST", "/cometd", "application/xml", "<a/>", 415, "CONTENT_TYPE_UNSUPPORTED"},
		{"malformed", "POST", "/cometd", "application/json", `[{"channel":`, 400, "JSON_INVALID"},
		{"not messages", "POST", "/cometd", "application/json", `[1]`, 400, "JSON_INVALID"},
		{"not UTF-8", "POST", "/cometd", "application/json", "[{\"channel\":\"\xff\"}]", 400, "JSON_INVALID"},
		{"deep", "POST", "/cometd", "application/json", `[{"channel":"/a","data":` + deep + `}]`, 400, "JSON_INVALID"},
		{"empty array", "POST", "/cometd", "application/json", "[]", 400, "PARAMETER_INVALID"},
		{"no body", "POST", "/cometd", "application/json", "", 400, "JSON_INVALID"},
		{"too many messages", "POST", "/cometd", "application/json", batch, 400, "BATCH_TOO_LARGE"},
		{"too large", "POST", "/cometd", "application/json", big, 413, "MESSAGE_TOO_LARGE"},
		{"get", "GET", "/cometd", "", "", 400, "PARAMETER_INVALID"},
		{"head", "HEAD", "/cometd", "", "", 400, ""},
		{"put", "PUT", "/cometd/", "application/json", connect, 405, "METHOD_NOT_ALLOWED"},
		{"options", "OPTIONS", "/cometd", "", "", 204, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, _ := serve(t, newHandler(t, &fakeSessions{}))
				r, err := http.NewRequestWithContext(t.Context(), tt.method, "http://edge.test"+tt.path, strings.NewReader(tt.body))
				if err != nil {
					t.Fatal(err)
				}
				if tt.contentType != "" {
					r.Header.Set("Content-Type", tt.contentType)
				}
				res := do(t, client, r)
				if res.StatusCode != tt.wantStatus {
					t.Errorf("status %d, want %d: %s", res.StatusCode, tt.wantStatus, res.body)
				}
				checkHeaders(t, res, "application/json")
				if tt.wantReason != "" {
					checkProblem(t, res, tt.wantReason)
				}
			})
		})
	}
}

type response struct {
	*http.Response
	body []byte
}

func do(t *testing.T, client *http.Client, r *http.Request) response {
	t.Helper()
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response{res, body}
}

func checkHeaders(t *testing.T, res response, contentType string) {
	t.Helper()
	if got := res.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control %q", got)
	}
	if got := res.Header.Get("X-Content-Type-Options"); got != "nosniff" {
		t.Errorf("X-Content-Type-Options %q", got)
	}
	if !strings.Contains(strings.Join(res.Header.Values("Vary"), ","), "Origin") {
		t.Errorf("Vary %q", res.Header.Values("Vary"))
	}
	if res.StatusCode == http.StatusOK && res.Header.Get("Content-Type") != contentType {
		t.Errorf("Content-Type %q", res.Header.Get("Content-Type"))
	}
}

func checkProblem(t *testing.T, res response, reason string) {
	t.Helper()
	var p web.Problem
	if err := json.Unmarshal(res.body, &p); err != nil {
		t.Fatalf("%v in %s", err, res.body)
	}
	if p.Status != res.StatusCode || p.Reason != reason || p.Title == "" || p.Detail == "" {
		t.Errorf("problem %+v, want reason %s", p, reason)
	}
	if got := res.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type %q", got)
	}
}

func TestOrigins(t *testing.T) {
	listed := []string{"https://app.example", "https://*.example.org"}
	tests := []struct {
		name    string
		allowed []string
		host    string
		origin  string
		want    bool
	}{
		{"no origin", nil, "edge.test", "", true},
		{"same origin", nil, "edge.test", "https://edge.test", true},
		{"same origin with port", nil, "edge.test:8080", "http://edge.test:8080", true},
		{"other port", nil, "edge.test:8080", "http://edge.test:8081", false},
		{"foreign", nil, "edge.test", "https://evil.test", false},
		{"null", nil, "edge.test", "null", false},
		{"listed", listed, "edge.test", "https://app.example", true},
		{"listed, other scheme", listed, "edge.test", "http://app.example", false},
		{"listed below", listed, "edge.test", "https://a.b.example.org", true},
		{"suffix only", listed, "edge.test", "https://evilexample.org", false},
		{"domain itself", listed, "edge.test", "https://example.org", false},
		{"loopback", []string{"loopback"}, "127.0.0.1:8080", "http://localhost:3000", true},
		{"loopback by number", []string{"loopback"}, "localhost:8080", "http://[::1]:3000", true},
		{"loopback not listed", nil, "127.0.0.1:8080", "http://localhost:3000", false},
		{"loopback look-alike", []string{"loopback"}, "127.0.0.1:8080", "http://localhost.evil.test", false},
		{"rebound name", []string{"loopback"}, "evil.test:8080", "http://evil.test:8080", false},
		{"address", []string{"loopback"}, "192.0.2.7:8080", "http://192.0.2.7:8080", true},
	}
	for _, tt := range tests {
		for _, method := range []string{http.MethodPost, http.MethodOptions, http.MethodGet} {
			t.Run(tt.name+" "+method, func(t *testing.T) {
				f := &fakeSessions{}
				r := httptest.NewRequest(method, "/cometd", strings.NewReader(connect))
				r.Host = tt.host
				if tt.origin != "" {
					r.Header.Set("Origin", tt.origin)
				}
				if method == http.MethodOptions {
					r.Header.Set("Access-Control-Request-Method", "POST")
					r.Header.Set("Access-Control-Request-Headers", "content-type")
				}
				w := httptest.NewRecorder()
				newHandler(t, f, tt.allowed...).ServeHTTP(w, r)

				res := response{w.Result(), w.Body.Bytes()}
				checkHeaders(t, res, "application/json")
				if !tt.want {
					checkProblem(t, res, "ORIGIN_DENIED")
					if res.Header.Get("Access-Control-Allow-Origin") != "" || len(f.got) != 0 {
						t.Errorf("a foreign page was let in: %v", res.Header)
					}
					return
				}
				if tt.origin == "" {
					return
				}
				if got := res.Header.Get("Access-Control-Allow-Origin"); got != tt.origin {
					t.Errorf("status %d, Access-Control-Allow-Origin %q, want %q", res.StatusCode, got, tt.origin)
				}
				if res.Header.Get("Access-Control-Allow-Credentials") != "true" {
					t.Error("credentials are not allowed")
				}
			})
		}
	}
}

func TestParseOriginsRefuses(t *testing.T) {
	for _, entry := range []string{"*", "app.example", "https://", "https://*.*.example", "https://a*.example", "https://app.example/path", "https://*."} {
		if _, err := web.ParseOrigins([]string{entry}); err == nil {
			t.Errorf("%q was taken", entry)
		}
	}
}

func TestCookie(t *testing.T) {
	handshake := `[{"channel":"/meta/handshake","version":"1.0"}]`
	tests := []struct {
		name, body, cookie string
		wantSet            bool
	}{
		{"handshake", handshake, "", true},
		{"handshake with cookie", handshake, "abc123", false},
		{"handshake with a bad cookie", handshake, "a_b", true},
		{"connect", connect, "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := &fakeSessions{}
			r := httptest.NewRequest(http.MethodPost, "/cometd", strings.NewReader(tt.body))
			if tt.cookie != "" {
				r.AddCookie(&http.Cookie{Name: transport.Cookie, Value: tt.cookie})
			}
			w := httptest.NewRecorder()
			newHandler(t, f).ServeHTTP(w, r)
			set := ""
			for _, c := range w.Result().Cookies() {
				if c.Name == transport.Cookie && c.HttpOnly && c.Path == "/" {
					set = c.Value
				}
			}
			if (set != "") != tt.wantSet {
				t.Errorf("set %q, want set: %v", set, tt.wantSet)
			}
			if want := max(set, ""); tt.wantSet && f.got[0].Browser != want || !tt.wantSet && f.got[0].Browser != tt.cookie {
				t.Errorf("browser %q", f.got[0].Browser)
			}
		})
	}
}

// A poll outlives the time limits of reading, and of the header.
func TestHeldPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSessions{hold: true}
		client, _ := serve(t, newHandler(t, f))
		done := make(chan int)
		go func() {
			res, err := client.Post("http://edge.test/cometd/connect", "application/json", strings.NewReader(connect))
			if err != nil {
				t.Error(err)
				close(done)
				return
			}
			_ = res.Body.Close()
			done <- res.StatusCode
		}()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		f.held[0].Answer(hold.Answer{Status: http.StatusServiceUnavailable})
		if got := <-done; got != http.StatusServiceUnavailable {
			t.Errorf("status %d", got)
		}
		synctest.Wait()
		if f.written != 1 || f.lost != 0 {
			t.Errorf("written %d, lost %d", f.written, f.lost)
		}
	})
}

// A client that goes away while its poll is held is noticed at once.
func TestPeerVanishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSessions{hold: true}
		_, l := serve(t, newHandler(t, f))
		c, err := l.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodPost, "http://edge.test/cometd", strings.NewReader(connect))
		if err := r.Write(c); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		_ = c.Close()
		synctest.Wait()
		if f.written != 0 || f.lost != 1 {
			t.Errorf("written %d, lost %d", f.written, f.lost)
		}
	})
}

func TestCutBodies(t *testing.T) {
	tests := []struct {
		name string
		cut  func(c io.Closer) // after half of the body
		want string
	}{
		{"slow", func(io.Closer) {}, "JSON_INVALID"},
		{"closed", func(c io.Closer) { _ = c.Close() }, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeSessions{}
				_, l := serve(t, newHandler(t, f))
				c, err := l.Dial(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = c.Close() }()
				var raw bytes.Buffer
				r := httptest.NewRequest(http.MethodPost, "http://edge.test/cometd", strings.NewReader(connect))
				if err := r.Write(&raw); err != nil {
					t.Fatal(err)
				}
				if _, err := c.Write(raw.Bytes()[:raw.Len()-10]); err != nil {
					t.Fatal(err)
				}
				tt.cut(c)
				if tt.want != "" {
					res, err := http.ReadResponse(bufio.NewReader(c), r)
					if err != nil {
						t.Fatal(err)
					}
					body, _ := io.ReadAll(res.Body)
					_ = res.Body.Close()
					if res.StatusCode != http.StatusBadRequest {
						t.Errorf("status %d", res.StatusCode)
					}
					checkProblem(t, response{res, body}, tt.want)
				}
				synctest.Wait()
				if len(f.got) != 0 {
					t.Error("half a body was taken for a whole one")
				}
			})
		})
	}
}

// FuzzHandler: whatever comes, there is an answer, and it is either Bayeux or
// a problem document.
func FuzzHandler(f *testing.F) {
	f.Add("POST", "/cometd", "application/json", "", connect)
	f.Add("POST", "/cometd/", "text/plain", "http://localhost", "message=%5B%5D")
	f.Add("PUT", "/cometd/%2e%2e", "a/b; charset=x", "null", "[]")
	f.Fuzz(func(t *testing.T, method, path, contentType, origin, body string) {
		r := httptest.NewRequest(http.MethodPost, "/cometd", strings.NewReader(body))
		r.Method, r.URL.Path = method, path
		r.Header["Content-Type"] = []string{contentType}
		if origin != "" {
			r.Header["Origin"] = []string{origin}
		}
		w := httptest.NewRecorder()
		newHandler(t, &fakeSessions{}, "loopback").ServeHTTP(w, r)
		switch w.Code {
		case http.StatusNoContent:
		case http.StatusOK:
			if _, err := bayeux.Decode(w.Body.Bytes(), bayeux.Limits{Bytes: 1 << 30, Depth: 1 << 20}); err != nil {
				t.Errorf("not Bayeux: %v in %q", err, w.Body)
			}
		default:
			checkProblem(t, response{w.Result(), w.Body.Bytes()}, problemReason(t, w.Body.Bytes()))
		}
	})
}

func problemReason(t *testing.T, body []byte) string {
	t.Helper()
	var p web.Problem
	if err := json.Unmarshal(body, &p); err != nil || p.Reason == "" || p.Reason == "UNSPECIFIED" {
		t.Errorf("not a problem document: %q", body)
	}
	return p.Reason
}
