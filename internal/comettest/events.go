package comettest

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	presencev1 "github.com/comet-push/comet/gen/comet/presence/v1"
	"github.com/comet-push/comet/internal/config"
	"github.com/comet-push/comet/internal/rpc"
)

// Events is what a backend was told of sessions, in the order it came.
type Events struct {
	name string

	mu       sync.Mutex
	all      []*presencev1.Event
	breaches []string
	position string            // of a watch
	bodies   map[string]string // of requests, by delivery
}

// All returns what came so far.
func (e *Events) All() []*presencev1.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.all)
}

func (e *Events) take(x *presencev1.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, x)
}

func (e *Events) breach(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.breaches = append(e.breaches, fmt.Sprintf(format, args...))
}

// Ends returns the reasons of the ends that were told of sessions which were on
// a channel, each event once.
func (e *Events) Ends(channel string) (reasons []string) {
	known := map[string]bool{}
	for _, x := range e.All() {
		d := x.GetDisconnected()
		if d != nil && !known[x.GetId()] && slices.Contains(d.GetChannels(), channel) {
			known[x.GetId()] = true
			reasons = append(reasons, d.GetReason())
		}
	}
	return reasons
}

// Leaves returns how many events say that a session left a channel and went on,
// each once.
func (e *Events) Leaves(channel string) int {
	known := map[string]bool{}
	for _, x := range e.All() {
		if x.GetLeft().GetChannel() == channel {
			known[x.GetId()] = true
		}
	}
	return len(known)
}

// Err returns what is wrong with what came: a session that is told of again
// after its end, in no later generation, or ended by two different events; and
// whatever was against the protocol.
func (e *Events) Err() error {
	var errs []error
	ended, known := map[string][2]uint64{}, map[string]bool{}
	for _, x := range e.All() {
		if known[x.GetId()] {
			continue // it comes again
		}
		known[x.GetId()] = true
		g, err := generation(x.GetGeneration())
		if err != nil || x.GetSession() == "" || x.GetTime() == nil || x.GetKind() == nil {
			errs = append(errs, fmt.Errorf("%s: not a whole event: %v", e.name, x))
		}
		if last, over := ended[x.GetSession()]; over && slices.Compare(g[:], last[:]) <= 0 {
			errs = append(errs, fmt.Errorf("%s: %s after the end in %v", e.name, x.GetId(), last))
		}
		if x.GetDisconnected() != nil {
			ended[x.GetSession()] = g
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, breach := range e.breaches {
		errs = append(errs, fmt.Errorf("%s: %s", e.name, breach))
	}
	return errors.Join(errs...)
}

func generation(text string) (g [2]uint64, err error) {
	_, err = fmt.Sscanf(text, "%d.%d", &g[0], &g[1])
	return g, err
}

// WatchEvents starts a backend on a host of its own that watches what becomes
// of sessions, from now on. When its stream breaks it goes on at another
// presence process, after the last position that it has seen.
func (c *Cluster) WatchEvents(host string) *Events {
	c.t.Helper()
	e := &Events{name: host}
	pool := rpc.NewPool(c.Net.Dial(host))
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			err := e.watch(ctx, pool, c.presence()[i%len(c.presence())])
			if rpc.Reason(err) == channelv1.ErrorReason_ERROR_REASON_HISTORY_LOST {
				e.breach("%v", err)
			}
			wait(ctx, 200*time.Millisecond)
		}
	}()
	c.t.Cleanup(func() {
		stop()
		<-done
		if err := pool.Close(); err != nil {
			c.t.Error(err)
		}
	})
	for deadline := time.Now().Add(time.Minute); e.at() == ""; {
		if time.Now().After(deadline) {
			c.t.Fatalf("%s: the watch has no position after a minute", host)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return e
}

func (c *Cluster) presence() (names []string) {
	for _, n := range c.nodes {
		if n.Target == config.Presence {
			names = append(names, n.Name)
		}
	}
	return names
}

func (e *Events) at() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.position
}

func (e *Events) watch(ctx context.Context, pool *rpc.Pool, node string) error {
	conn, err := pool.Conn(node + ":9090")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silent := time.AfterFunc(time.Minute, cancel)
	defer silent.Stop()
	stream, err := presencev1.NewPresenceServiceClient(conn).WatchEvents(ctx, &presencev1.WatchEventsRequest{After: e.at()})
	for err == nil {
		var resp *presencev1.WatchEventsResponse
		if resp, err = stream.Recv(); err != nil {
			break
		}
		silent.Reset(time.Minute)
		if x := resp.GetEvent(); x != nil {
			e.take(x)
		}
		e.mu.Lock()
		e.position = resp.GetPosition()
		e.mu.Unlock()
	}
	return err
}

// HookSecret is what requests to webhooks are signed with; see Hook.
const HookSecret = "a secret of many bytes"

// Hook starts a backend at host:8090 that takes events by POST to /hook. One
// request of three fails in one way or another.
func (c *Cluster) Hook(host string, random *rand.Rand) *Events {
	c.t.Helper()
	l, err := c.Net.Listen(host + ":8090")
	if err != nil {
		c.t.Fatal(err)
	}
	e := &Events{name: host, bodies: map[string]string{}}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { e.hooked(w, r, random) })}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	c.t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return e
}

func (e *Events) hooked(w http.ResponseWriter, r *http.Request, random *rand.Rand) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // its sender died
	}
	if err := verifyHook([]byte(HookSecret), r.Header.Get("Comet-Signature"), body, time.Now()); err != nil || r.Header.Get("Comet-Delivery") == "" {
		e.breach("a request is not signed well: %v", err)
	}
	e.mu.Lock()
	fate := random.IntN(12)
	known, again := e.bodies[r.Header.Get("Comet-Delivery")]
	e.bodies[r.Header.Get("Comet-Delivery")] = string(body)
	e.mu.Unlock()
	if again && known != string(body) {
		e.breach("one delivery was %s, and is %s", known, body)
	}
	switch fate {
	case 0:
		http.Error(w, "not now", http.StatusServiceUnavailable)
		return
	case 1: // no answer
		wait(r.Context(), time.Minute)
		return
	}
	var batch struct{ Events []json.RawMessage }
	if err := json.Unmarshal(body, &batch); err != nil || len(batch.Events) == 0 || len(batch.Events) > 100 {
		e.breach("a body of %d events: %v", len(batch.Events), err)
	}
	for _, text := range batch.Events {
		var x presencev1.Event
		if err := protojson.Unmarshal(text, &x); err != nil {
			e.breach("%s: %v", text, err)
		}
		e.take(&x)
	}
	switch fate {
	case 2: // taken, but nobody hears of it
		panic(http.ErrAbortHandler)
	case 3:
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	case 4: // says more than anybody wants to hear
		for chunk := make([]byte, 1<<20); err == nil; {
			_, err = w.Write(chunk)
		}
	}
}

// verifyHook is what docs/operations.md tells backends to do.
func verifyHook(secret []byte, signature string, body []byte, now time.Time) error {
	t, sums, _ := strings.Cut(strings.TrimPrefix(signature, "t="), ",")
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(t + "."))
	mac.Write(body)
	want := []byte("v1=" + hex.EncodeToString(mac.Sum(nil)))
	sent, err := strconv.ParseInt(t, 10, 64)
	if err != nil || now.Sub(time.Unix(sent, 0)).Abs() > 5*time.Minute {
		return errors.New("not sent now")
	}
	for sum := range strings.SplitSeq(sums, ",") {
		if hmac.Equal([]byte(sum), want) {
			return nil
		}
	}
	return errors.New("no signature of ours")
}

// Unsubscribe lets a Bayeux client's session leave a channel, behind the back of
// the client.
func (c *Client) Unsubscribe(channel string) error {
	text, err := json.Marshal([]map[string]any{{"channel": "/meta/unsubscribe", "clientId": c.ID(), "subscription": channel}})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+c.edge()+"/cometd", bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && !bytes.Contains(answer, []byte(`"successful":true`)) {
		err = fmt.Errorf("unsubscribe: %s", answer)
	}
	return err
}

// Lines asks for a document that never ends, and returns what of it comes
// within a time.
func (c *Cluster) Lines(url string, within time.Duration) (status int, lines []string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	resp, err := c.HTTP("observer").Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, _ := io.ReadAll(resp.Body) // until the time is over
	return resp.StatusCode, strings.Split(strings.TrimSpace(string(text)), "\n")
}
