package demo_test

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/comet-push/comet/services/edge/demo"
)

func get(t *testing.T, path string) *httptest.ResponseRecorder {
	t.Helper()
	h, err := demo.New(`http://127.0.0.1:8081/v1/publish?"`, http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

// Everything the page names is served, of the right type, under its policy.
func TestPage(t *testing.T) {
	index := get(t, "/")
	types := map[string]string{"/": "text/html; charset=utf-8"}
	for _, m := range regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(index.Body.String(), -1) {
		types["/"+m[1]] = ""
	}
	for _, m := range regexp.MustCompile(`from '\./([^']+)'`).FindAllStringSubmatch(get(t, "/demo/app.js").Body.String(), -1) {
		types["/demo/"+m[1]] = ""
	}
	if len(types) < 5 {
		t.Errorf("the page names only %v", types)
	}
	for path := range types {
		w := get(t, path)
		if w.Code != http.StatusOK || w.Body.Len() == 0 {
			t.Errorf("%s: status %d", path, w.Code)
		}
		ext := path[strings.LastIndexAny(path, "./")+1:]
		want := map[string]string{"js": "javascript", "css": "text/css", "svg": "image/svg+xml", "": "text/html"}[ext]
		if got := w.Header().Get("Content-Type"); !strings.Contains(got, want) {
			t.Errorf("%s has type %q", path, got)
		}
		if csp := w.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s has policy %q", path, csp)
		}
	}
	if strings.Contains(index.Body.String(), `publish?""`) {
		t.Error("the publish URL is not escaped")
	}
	if get(t, "/demo/").Code != http.StatusNotFound || get(t, "/other").Code != http.StatusNotFound {
		t.Error("something else is served")
	}
}

// The policy would block what is inline; nothing may load from elsewhere.
func TestNothingInline(t *testing.T) {
	files := os.DirFS("page")
	err := fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(files, path)
		if err != nil {
			return err
		}
		bad := regexp.MustCompile(`\son[a-z]+=|\sstyle=|<style|<script>|innerHTML|eval\(|(?:src|href)="https?:`)
		if m := bad.Find(text); m != nil {
			t.Errorf("%s has %q", path, m)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
