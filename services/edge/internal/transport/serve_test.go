package transport_test

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/comet-push/comet/services/edge/internal/pipes"
)

// serve runs a handler as real HTTP over memory until the test ends.
func serve(t *testing.T, h http.Handler) (*http.Client, *pipes.Listener) {
	t.Helper()
	l := pipes.Listen()
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l)
	}()
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return l.Dial(ctx) },
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = server.Close()
		<-served
	})
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, l
}
