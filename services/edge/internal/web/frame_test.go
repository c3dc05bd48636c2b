package web_test

import (
	"strings"
	"testing"

	"github.com/comet-push/comet/services/edge/internal/web"
)

func TestAncestors(t *testing.T) {
	for _, tt := range []struct{ allowed, want string }{
		{"", "'self'"},
		{"https://app.example https://*.example.org", "'self' https://app.example https://*.example.org"},
		{"loopback", "'self' http://localhost:* http://*.localhost:* http://127.0.0.1:* https://localhost:* https://*.localhost:* https://127.0.0.1:*"},
	} {
		origins, err := web.ParseOrigins(strings.Fields(tt.allowed))
		if err != nil {
			t.Fatal(err)
		}
		if got := origins.Ancestors(); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.allowed, got, tt.want)
		}
	}
}
