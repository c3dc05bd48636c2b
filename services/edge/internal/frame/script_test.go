package frame_test

import (
	"strings"
	"testing"

	"github.com/comet-push/comet/services/edge/internal/frame"
)

func TestAppendScript(t *testing.T) {
	for in, want := range map[string]string{
		``:                                ``,
		`{"a":1}`:                         `{"a":1}`,
		`"</script>"`:                     `"\u003c/script\u003e"`,
		`"<!--&amp;"`:                     `"\u003c!--\u0026amp;"`,
		"\"a\u2028b\u2029\"":              `"a\u2028b\u2029"`,
		"\"\u2028\u2028<\u2029\"":         `"\u2028\u2028\u003c\u2029"`,
		"\"\u201cfair\u201d \u20ac\u2027": "\"\u201cfair\u201d \u20ac\u2027", // share the first bytes
		"\"\xe2":                          "\"\xe2",
		// A member of this name would set the prototype.
		`{"__proto__":1}`:                  `JSON.parse("{\"__proto__\":1}")`,
		`{"\u005f_pro\u0074o__":"\n<"}`:    `JSON.parse("{\"\\u005f_pro\\u0074o__\":\"\\n\u003c\"}")`,
		"{\n\"__proto__\"\r:\"\u2028\"\t}": "JSON.parse(\"{\\n\\\"__proto__\\\"\\r:\\\"\\u2028\\\"\\t}\")",
		`"\u003c proto \u00"`:              `"\u003c proto \u00"`,
	} {
		if got := string(frame.AppendScript([]byte("c("), []byte(in))); got != "c("+want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestDocument(t *testing.T) {
	first := string(frame.Document("app.take", []byte(`{"type":"open"}`)).Payload())
	const head = `<!DOCTYPE html><html><head><meta charset="utf-8"><script>function c(m){parent.app.take(m)}`
	const tail = "</script></head><body>\n<script>c({\"type\":\"open\"})</script>\n"
	if !strings.HasPrefix(first, head) || !strings.HasSuffix(first, tail) {
		t.Errorf("a document begins with %s", first)
	}
	if got, want := string(frame.Reload("~Ab-_9").Payload()), "<script>r(\"~Ab-_9\")</script>\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
