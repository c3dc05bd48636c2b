package edge

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/bayeux"
)

// plainListener reads some channels over one transport after the other, and
// goes on from the newest cursor or position whenever it was cut off.
type plainListener struct {
	w      *world
	random *rand.Rand
	names  []string
	since  string
	seen   map[string]bool // channel and position
	got    map[string][]int

	refused bool // and would be at once, for ever, while time stands still
}

func (l *plainListener) run(ctx context.Context) {
	transports := []string{"poll", "long-poll", "sse", "stream", "ws"}
	for ctx.Err() == nil && !l.refused {
		own, hangUp := context.WithTimeout(ctx, time.Duration(1+l.random.Int64N(int64(2*time.Second))))
		switch transport := transports[l.random.IntN(len(transports))]; transport {
		case "poll", "long-poll":
			l.poll(own, transport)
		default:
			l.listen(own, transport)
		}
		hangUp()
	}
}

func (l *plainListener) path(transport string) string {
	query := url.Values{"channel": l.names, "since": {l.since}}
	if transport != "ws" {
		query.Set("transport", transport)
	}
	return "/channels?" + query.Encode()
}

func (l *plainListener) poll(ctx context.Context, transport string) {
	path := l.path(transport) + fmt.Sprintf("&limit=%d", 1+l.random.IntN(20))
	r := l.w.request(http.MethodGet, path, "")
	res, err := l.w.curl().Do(r.WithContext(ctx))
	if err != nil {
		return // hung up
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		l.w.t.Errorf("%s: status %d", path, res.StatusCode)
		l.refused = true
		return
	}
	var batch message
	if err := json.NewDecoder(res.Body).Decode(&batch); err == nil {
		l.take(batch)
	}
}

func (l *plainListener) listen(ctx context.Context, transport string) {
	s := l.w.begin(transport, l.path("ws")) // which says the transport itself
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	for {
		u, err := s.read()
		if err != nil {
			return
		}
		if u.kind() == "end" {
			l.w.t.Errorf("%v: %v", l.names, u.object)
			l.refused = true
			return
		}
		l.take(u.object)
	}
}

// take notes an object: a batch, a message or a control object.
func (l *plainListener) take(object message) {
	if list, ok := object["messages"].([]any); ok {
		for _, m := range list {
			m, _ := m.(map[string]any)
			l.message(m)
		}
	}
	if cursor, ok := object["cursor"].(string); ok {
		l.since = cursor
	}
	if object["type"] == "resync" || object["resync"] != nil {
		l.w.t.Errorf("%v: %v", l.names, object)
	}
	if object["position"] != nil {
		l.message(object)
		if len(l.names) == 1 && !bayeux.IsPattern(l.names[0]) {
			l.since = fmt.Sprintf("%.0f", object["position"])
		}
	}
}

func (l *plainListener) message(m message) {
	channel, _ := m["channel"].(string)
	id := fmt.Sprint(channel, m["position"])
	if n, ok := m["data"].(float64); ok && !l.seen[id] {
		l.seen[id] = true
		l.got[channel] = append(l.got[channel], int(n))
	}
}

func (l *plainListener) check(t *testing.T, published map[string]int) {
	t.Helper()
	for channel, last := range published {
		if !slices.ContainsFunc(l.names, func(name string) bool { return bayeux.Match(name, channel) }) {
			last = 0
		}
		got := l.got[channel]
		for i := range max(last, len(got)) {
			if i >= len(got) || got[i] != i+1 {
				t.Errorf("%v of %d on %s: %v", l.names, last, channel, got)
				break
			}
		}
	}
}

// Readers that hang up all the time and go on from their cursors over another
// transport miss nothing, and get everything in order.
func TestPlainTraffic(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			inWorld(t, Config{Heartbeat: time.Second, Linger: 500 * time.Millisecond}, func(w *world) { plainTraffic(w, seed) })
		})
	}
}

func plainTraffic(w *world, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0))
	channels := []string{"/a", "/a/b", "/a/c", "/x/y"}
	names := slices.Concat(channels, []string{"/a/*", "/a/**", "/**"})
	ctx, stop := context.WithCancel(w.t.Context())
	var reading sync.WaitGroup
	var listeners []*plainListener
	for i := range 8 {
		l := &plainListener{
			w: w, random: rand.New(rand.NewPCG(seed, uint64(i)+1)), since: "earliest",
			seen: map[string]bool{}, got: map[string][]int{},
		}
		for _, n := range random.Perm(len(names))[:1+random.IntN(3)] {
			l.names = append(l.names, names[n])
		}
		listeners = append(listeners, l)
		reading.Go(func() { l.run(ctx) })
	}
	published := map[string]int{}
	for range 400 {
		channel := channels[random.IntN(len(channels))]
		published[channel]++
		w.broker.publish(channel, fmt.Sprint(published[channel]))
		if random.IntN(3) == 0 {
			time.Sleep(time.Duration(random.Int64N(int64(50 * time.Millisecond))))
		}
	}
	time.Sleep(10 * time.Second)
	stop()
	reading.Wait()
	synctest.Wait()
	for _, l := range listeners {
		l.check(w.t, published)
	}
	w.wantQuiet()
	if n := w.value("comet_edge_readers"); n != 0 {
		w.t.Errorf("%v readers are left", n)
	}
}
