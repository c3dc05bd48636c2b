package frame_test

import (
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
	} {
		if got := string(frame.AppendScript([]byte("c("), []byte(in))); got != "c("+want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
