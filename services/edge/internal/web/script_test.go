package web_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/comet-push/comet/services/edge/internal/web"
)

func TestAllowScript(t *testing.T) {
	origins, err := web.ParseOrigins([]string{"https://app.example.com", "https://*.shop.test"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		header http.Header
		want   bool
	}{
		{"program", http.Header{}, true},
		{"own page", http.Header{"Referer": {"https://edge.test/page?x=1"}, "Sec-Fetch-Site": {"same-origin"}}, true},
		{"allowed page", http.Header{"Referer": {"https://App.example.com/"}, "Sec-Fetch-Site": {"cross-site"}}, true},
		{"allowed pages below", http.Header{"Referer": {"https://a.b.shop.test/x"}}, true},
		{"foreign page", http.Header{"Referer": {"https://evil.test/https://app.example.com/"}}, false},
		{"name in the user", http.Header{"Referer": {"https://app.example.com@evil.test/"}}, false},
		{"name in front", http.Header{"Referer": {"https://app.example.com.evil.test/"}}, false},
		{"other scheme", http.Header{"Referer": {"http://app.example.com/"}}, false},
		{"no address", http.Header{"Referer": {"app"}}, false},
		{"two addresses", http.Header{"Referer": {"https://app.example.com/", "https://app.example.com/"}}, false},
		{"page that hides", http.Header{"Sec-Fetch-Site": {"cross-site"}}, false},
		{"neighbour that hides", http.Header{"Sec-Fetch-Site": {"same-site"}}, false},
		{"own page that hides", http.Header{"Sec-Fetch-Site": {"same-origin"}}, true},
		{"typed", http.Header{"Sec-Fetch-Site": {"none"}}, true},
		{"allowed origin", http.Header{"Origin": {"https://app.example.com"}}, true},
		{"foreign origin, allowed page", http.Header{"Origin": {"https://evil.test"}, "Referer": {"https://app.example.com/"}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://edge.test/cometd", nil)
			r.Header = tt.header
			if got := origins.AllowScript(r); got != tt.want {
				t.Errorf("allowed %v, want %v", got, tt.want)
			}
		})
	}
}

func TestValidCallback(t *testing.T) {
	for name, want := range map[string]bool{
		"_cometd_jsonp_0": true, "__jsonp1__": true, web.DefaultCallback: true, "a.b.$c": true, "A": true,
		strings.Repeat("x", 64): true,
		"":                      false, "1a": false, ".": false, "a.": false, ".a": false, "a..b": false, "a.1": false,
		"a b": false, "a;b": false, "a(": false, "a[0]": false, "ä": false, "a\n": false, "a/**/": false, "<a>": false,
		strings.Repeat("x", 65): false,
	} {
		if got := web.ValidCallback(name); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}

func TestAppendScript(t *testing.T) {
	got := string(web.AppendScript(nil, "a.b", []byte("[{\"data\":\"</script><!--\u2028&\"}]")))
	if want := `/**/a.b([{"data":"\u003c/script\u003e\u003c!--\u2028\u0026"}]);`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
