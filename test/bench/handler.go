package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/comet-push/comet/test/internal/cluster"
)

var cursor = []byte(`"cursor":"`)

// polls is a Comet with clients that ask for more as soon as they are answered.
func polls(p *cluster.Process) *peer {
	rest := &poster{addr: p.Internal}
	const from = "?transport=long-poll&since="
	return &peer{
		name: "Comet long-poll", pid: p.Pid(), addr: p.HTTP, ready: cursor,
		ask: func(channel string) string { return get(p.HTTP, "/channels/"+channel+from+"latest&wait=0") },
		next: func(r *reader, text []byte) []byte {
			_, after, _ := bytes.Cut(text, cursor)
			position, _, whole := bytes.Cut(after, []byte(`"}`))
			if !whole {
				return nil
			}
			return []byte(get(p.HTTP, "/channels/"+r.channel+from+string(position)))
		},
		publish: func(r *reader, data []byte) error { return publish(rest, r.channel, data) },
	}
}

// startHandler starts a child that is a plain handler of net/http: it answers a
// request at once with the bytes that Comet answers a poll with, once there is
// a message. All clients ask when a message is due.
func startHandler(b *testing.B) *peer {
	b.Helper()
	pid, addr, _ := startChild(b, "handler")
	return &peer{
		name: "net/http", pid: pid, addr: addr, ready: cursor,
		ask: func(channel string) string { return get(addr, "/channels/"+channel+"?") },
		publish: func(r *reader, data []byte) error {
			return r.sendAll([]byte(get(addr, "/channels/"+r.channel+"?transport=long-poll&since=3765126029115393", "Stamp: "+string(data))))
		},
	}
}

// serveHandler serves until its input ends.
func serveHandler(in io.Reader, out io.Writer) error {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(out, l.Addr()); err != nil {
		return err
	}
	s := &http.Server{Handler: http.HandlerFunc(answer), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	if _, err := io.Copy(io.Discard, in); err != nil {
		return err
	}
	if err := errors.Join(s.Close(), <-served); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func answer(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store, no-transform")
	h["Vary"] = []string{"Origin", "Accept"}
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Type", "application/json")
	data := r.Header.Get("Stamp")
	if data == "" {
		data = "null"
	}
	// What fails has no reader any more.
	_, _ = fmt.Fprintf(w, `{"messages":[{"channel":%q,"position":3765126029115394,"data":%s}],"cursor":"3765126029115394"}`, r.URL.Path[len("/channels"):], data)
}
