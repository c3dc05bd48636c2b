package edge

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/bayeux"
)

// listener is a client that polls until it is told to stop or refused, and now
// and then hangs up while it waits.
type listener struct {
	*browserClient

	names  []string
	aborts bool
	got    map[string][]int // by channel
}

func (l *listener) run(ctx context.Context, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	failed := false
	for ctx.Err() == nil {
		own, hangUp := ctx, context.CancelFunc(func() {})
		if l.aborts && random.IntN(4) == 0 {
			own, hangUp = context.WithTimeout(ctx, rand.N(50*time.Millisecond))
		}
		m := connect()
		if failed {
			m["advice"] = message{"timeout": 0} // as CometD's client does
		}
		_, answer, err := l.post(own, m)
		hangUp()
		failed = err != nil
		for _, e := range answer {
			if e["successful"] == false { // at once, for ever, while time stands still
				l.w.t.Errorf("%v is refused: %v", l.names, e)
				return
			}
			if n, ok := e["data"].(float64); ok {
				channel, _ := e["channel"].(string)
				l.got[channel] = append(l.got[channel], int(n))
			}
		}
	}
}

// check: every message of every channel came, in order; twice only to those
// who hung up.
func (l *listener) check(t *testing.T, published map[string]int) {
	t.Helper()
	for channel, last := range published {
		wanted := slices.ContainsFunc(l.names, func(name string) bool { return bayeux.Match(name, channel) })
		got := l.got[channel]
		if l.aborts {
			got = slices.Clone(got)
			slices.Sort(got)
			got = slices.Compact(got)
		}
		if !wanted {
			last = 0
		}
		for i := range max(last, len(got)) {
			if i >= len(got) || got[i] != i+1 {
				t.Errorf("%v of %d on %s: %v", l.names, last, channel, l.got[channel])
				break
			}
		}
	}
}

// TestTraffic: many publishers and listeners with overlapping subscriptions,
// some of whom hang up, come and go: nothing is lost, nothing comes twice.
func TestTraffic(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			inWorld(t, Config{}, func(w *world) { traffic(w, seed) })
		})
	}
}

func traffic(w *world, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0))
	channels := []string{"/a", "/a/b", "/a/c", "/x/y"}
	names := slices.Concat(channels, []string{"/a/*", "/a/**", "/**"})
	ctx, stop := context.WithCancel(w.t.Context())
	var polling sync.WaitGroup
	var listeners []*listener
	for i := range 8 {
		l := &listener{browserClient: w.client(), aborts: i%2 == 1, got: map[string][]int{}}
		for _, n := range random.Perm(len(names))[:1+random.IntN(4)] {
			l.names = append(l.names, names[n])
		}
		l.open(l.names...)
		listeners = append(listeners, l)
		polling.Go(func() { l.run(ctx, seed*100+uint64(i)) })
	}
	published := map[string]int{}
	passer := w.client().open()
	for range 400 {
		channel := channels[random.IntN(len(channels))]
		published[channel]++
		w.broker.publish(channel, fmt.Sprint(published[channel]))
		if random.IntN(3) == 0 {
			time.Sleep(time.Duration(random.Int64N(int64(20 * time.Millisecond))))
		}
		if random.IntN(20) == 0 {
			name := names[random.IntN(len(names))]
			passer.want(passer.send(message{"channel": "/meta/subscribe", "subscription": name},
				message{"channel": "/meta/unsubscribe", "subscription": name}))
		}
	}
	time.Sleep(time.Minute)
	stop()
	polling.Wait()
	synctest.Wait()
	for _, l := range listeners {
		l.check(w.t, published)
	}
	w.wantQuiet()
}
