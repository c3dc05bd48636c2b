package transport_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/services/edge/internal/hold"
	"github.com/comet-push/comet/services/edge/internal/transport"
	"github.com/comet-push/comet/services/edge/internal/web"
)

func query(params ...string) string {
	q := url.Values{}
	for i := 0; i < len(params); i += 2 {
		q.Add(params[i], params[i+1])
	}
	return "/cometd?" + q.Encode()
}

func TestScripts(t *testing.T) {
	one := `[{"id":"3","channel":"/a","data":"</script>\u2028` + "\u2028" + `"}]`
	reply := `[{"channel":"/a","id":"3","successful":true}]`
	tests := []struct {
		name       string
		target     string
		wantStatus int
		want       string // the script, or the reason
	}{
		{"CometD", query("jsonp", "_cometd_jsonp_0", "message", one), 200, "/**/_cometd_jsonp_0(" + reply + ");"},
		{"Faye", query("jsonp", "__jsonp1__", "message", one), 200, "/**/__jsonp1__(" + reply + ");"},
		{"dotted", query("jsonp", "a.b.$c", "message", one), 200, "/**/a.b.$c(" + reply + ");"},
		{"default", query("message", one), 200, "/**/jsonpcallback(" + reply + ");"},
		{"bare object", query("message", one[1:len(one)-1]), 200, "/**/jsonpcallback(" + reply + ");"},
		{"below", "/cometd/connect?" + strings.TrimPrefix(query("message", one), "/cometd?"), 200, "/**/jsonpcallback(" + reply + ");"},
		{
			"two", query("message", `[{"channel":"/a"}]`, "message", `{"channel":"/b"}`), 200,
			`/**/jsonpcallback([{"channel":"/a","successful":true},{"channel":"/b","successful":true}]);`,
		},
		{"other parameters", query("_", "123", "message", one), 200, "/**/jsonpcallback(" + reply + ");"},
		{
			"escaped", query("message", `[{"channel":"/meta/subscribe","subscription":"/<b>&`+"\u2029"+`"}]`), 200,
			`/**/jsonpcallback([{"channel":"/meta/subscribe","successful":true,"subscription":"/\u003cb\u003e\u0026\u2029"}]);`,
		},
		{"long", query("message", `[{"id":"3","channel":"/a","data":"`+strings.Repeat("x", 16<<10)+`"}]`), 200, "/**/jsonpcallback(" + reply + ");"},
		{"bad name", query("jsonp", "alert(1)//", "message", one), 400, "PARAMETER_INVALID"},
		{"no name", query("jsonp", "", "message", one), 400, "PARAMETER_INVALID"},
		{"two names", query("jsonp", "a", "jsonp", "b", "message", one), 400, "PARAMETER_INVALID"},
		{"bad query", "/cometd?message=%zz", 400, "PARAMETER_INVALID"},
		{"malformed", query("message", `[{"channel"`), 400, "JSON_INVALID"},
		{"empty", query("message", ""), 400, "JSON_INVALID"},
		{"no messages", query("message", "[]"), 400, "PARAMETER_INVALID"},
		{"nothing", "/cometd", 400, "PARAMETER_INVALID"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, _ := serve(t, newHandler(t, &fakeSessions{}))
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://edge.test"+tt.target, nil)
				if err != nil {
					t.Fatal(err)
				}
				res := do(t, client, r)
				checkHeaders(t, res, "text/javascript; charset=utf-8")
				if res.StatusCode != tt.wantStatus {
					t.Fatalf("status %d, want %d: %s", res.StatusCode, tt.wantStatus, res.body)
				}
				if tt.wantStatus != http.StatusOK {
					checkProblem(t, res, tt.want)
					return
				}
				if got := string(res.body); got != tt.want {
					t.Errorf("got  %s\nwant %s", got, tt.want)
				}
				if res.Header.Get("Content-Disposition") != "attachment; filename=f.txt" {
					t.Errorf("headers %v", res.Header)
				}
			})
		})
	}
}

// Scripts of other sites could send messages that a browser's cookies or its
// place in a network let pass.
func TestScriptsOfPages(t *testing.T) {
	for _, tt := range []struct {
		name, header, value string
		want                int
	}{
		{"allowed", "Referer", "https://app.test/", 200},
		{"foreign", "Referer", "https://evil.test/", 403},
		{"foreign origin", "Origin", "https://evil.test", 403},
		{"hidden", "Sec-Fetch-Site", "cross-site", 403},
		{"own", "Sec-Fetch-Site", "same-origin", 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sessions := &fakeSessions{}
			w := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, query("message", connect), nil)
			r.Header.Set(tt.header, tt.value)
			newHandler(t, sessions, "https://app.test").ServeHTTP(w, r)
			if w.Code != tt.want || len(sessions.got) > 0 != (tt.want == 200) {
				t.Errorf("status %d, %d requests let through", w.Code, len(sessions.got))
			}
		})
	}
}

func TestScriptsSwitchedOff(t *testing.T) {
	origins, err := web.ParseOrigins(nil)
	if err != nil {
		t.Fatal(err)
	}
	h := transport.New(transport.Config{
		Origins: origins, Holder: hold.Waiting{WriteTimeout: time.Second}, Number: func() uint64 { return 1 },
	}, &fakeSessions{})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, query("message", connect), nil))
	if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "TRANSPORT_DISABLED") {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
}

// A status that is no answer of a session is no script either.
func TestScriptReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sessions := &fakeSessions{hold: true}
		client, _ := serve(t, newHandler(t, sessions))
		go func() {
			synctest.Wait()
			sessions.held[0].Answer(hold.Answer{Status: http.StatusServiceUnavailable})
		}()
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://edge.test"+query("message", connect), nil)
		res := do(t, client, r)
		if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Content-Disposition") != "" {
			t.Errorf("status %d, %v", res.StatusCode, res.Header)
		}
		checkProblem(t, res, "UNAVAILABLE")
	})
}

// Whatever the address, the answer is a problem, or a script that does nothing
// but call a function with JSON.
func FuzzScript(f *testing.F) {
	f.Add("jsonp=_cometd_jsonp_0&message=" + url.QueryEscape(connect))
	f.Add("message=%5B%7B%22channel%22%3A%22%2F%3C%2Fscript%3E%22%7D%5D&jsonp=a.b")
	f.Add("jsonp=a&jsonp=b&message=[]&message={}")
	f.Add("jsonp=alert(1)//&message=[{}]")
	f.Add("message=[{\"id\":\"\u2028\"}]")
	h := newHandler(f, &fakeSessions{})
	f.Fuzz(func(t *testing.T, raw string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/cometd", nil)
		r.URL.RawQuery = raw
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			if w.Header().Get("Content-Type") != web.ProblemType || !json.Valid(w.Body.Bytes()) {
				t.Fatalf("status %d: %s", w.Code, w.Body)
			}
			return
		}
		body, ok := bytes.CutPrefix(w.Body.Bytes(), []byte("/**/"))
		name, call, found := bytes.Cut(body, []byte("("))
		array, closed := bytes.CutSuffix(call, []byte(");"))
		if !ok || !found || !closed || !web.ValidCallback(string(name)) || !json.Valid(array) ||
			bytes.ContainsAny(array, "<>&\u2028\u2029") {
			t.Fatalf("not a script: %q", w.Body)
		}
	})
}
