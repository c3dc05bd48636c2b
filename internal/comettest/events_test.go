package comettest_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/internal/comettest"
	"github.com/comet-push/comet/internal/config"
)

// witnesses are two backends that are told what becomes of sessions, one that
// watches and one that is called.
type witnesses struct {
	*comettest.Cluster

	t    *testing.T
	told []*comettest.Events
	all  []*comettest.Client
}

func newWitnesses(t *testing.T, seed uint64, edges, brokers, presence int) *witnesses {
	t.Helper()
	secrets := filepath.Join(t.TempDir(), "secrets")
	if err := os.WriteFile(secrets, []byte("an older secret, still\n"+comettest.HookSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &witnesses{t: t, Cluster: comettest.New(t, comettest.Options{
		Edges: edges, Brokers: brokers, Presence: presence,
		Configure: func(_ string, cfg *config.Config) {
			cfg.Presence.Webhook, cfg.Presence.WebhookSecretFile = "http://hook:8090/hook", secrets
		},
	})}
	w.told = []*comettest.Events{w.Hook("hook", rand.New(rand.NewPCG(seed, 1))), w.WatchEvents("watcher")}
	return w
}

// own is a channel that only one client is on.
func own(name string) string { return "/own/" + name }

// join starts a client at an edge, which it knows alone.
func (w *witnesses) join(name, edge string) *comettest.Client {
	w.t.Helper()
	c := w.Client(name, edge, "/all", own(name))
	w.all = append(w.all, c)
	return c
}

// check wants all to have been told of the end of a client's session, once, or
// of none.
func (w *witnesses) check(name string, reasons ...string) {
	w.t.Helper()
	for i, e := range w.told {
		got := e.Ends(own(name))
		switch {
		case len(reasons) == 0 && len(got) > 0:
			w.t.Errorf("witness %d was told %v of %s, which goes on", i, got, name)
		case len(reasons) > 0 && (len(got) != 1 || !slices.Contains(reasons, got[0])):
			w.t.Errorf("witness %d was told %v of %s, want one of %v", i, got, name, reasons)
		}
	}
}

func (w *witnesses) finish() {
	w.t.Helper()
	for _, e := range w.told {
		if err := e.Err(); err != nil {
			w.t.Error(err)
		}
	}
}

// TestEventsOfSessions: sessions end in every way there is, and leave channels.
func TestEventsOfSessions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWitnesses(t, 1, 2, 1, 2)
		leaves, vanishes, leavesOne := w.join("leaves", "edge-0"), w.join("vanishes", "edge-0"), w.join("leaves-one", "edge-0")
		w.join("stays", "edge-0")
		dies := w.join("dies", "edge-1")
		w.Client("drifts", "edge-1", own("drifts"))
		time.Sleep(2 * time.Second)

		leaves.Leave()
		vanishes.Vanish()
		if err := leavesOne.Unsubscribe("/all"); err != nil {
			t.Fatal(err)
		}
		dies.Vanish()
		w.Crash("edge-1")
		time.Sleep(30 * time.Second)
		w.check("leaves", "disconnect")
		time.Sleep(4 * time.Minute)
		w.check("vanishes", "expired")
		w.check("dies", "lost")
		w.check("drifts", "lost")
		w.check("stays")
		w.check("leaves-one")
		for i, e := range w.told {
			if n := e.Leaves("/all"); n != 1 {
				t.Errorf("witness %d was told of %d leaves, want one", i, n)
			}
		}
		for _, node := range []string{"presence-0", "presence-1"} {
			if n := w.Value(node, "comet_presence_events_waiting"); n != 0 {
				t.Errorf("%v events wait at %s", n, node)
			}
		}
		w.finish()
	})
}

// TestEventsOutliveTheirPublisher parts presence from brokers while sessions
// end, and then kills one of two holders: the other one publishes what that one
// could not.
func TestEventsOutliveTheirPublisher(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWitnesses(t, 2, 2, 2, 2)
		const clients = 12
		for i := range clients {
			w.join(fmt.Sprint("c", i), fmt.Sprint("edge-", i%2))
		}
		time.Sleep(time.Second)
		part := func(parted bool) {
			for _, presence := range []string{"presence-0", "presence-1"} {
				for _, broker := range []string{"broker-0", "broker-1"} {
					if parted {
						w.Net.Partition(presence, broker)
					} else {
						w.Net.Cut(presence, broker) // what is under way is lost
						w.Net.Heal(presence, broker)
					}
				}
			}
		}
		part(true)
		for _, c := range w.all {
			c.Leave()
		}
		time.Sleep(15 * time.Second) // longer than a publish may take
		w.Crash("presence-0")
		part(false)
		time.Sleep(30 * time.Second)
		for i := range clients {
			w.check(fmt.Sprint("c", i), "disconnect")
		}
		if n := w.Value("presence-1", "comet_presence_events_waiting"); n != 0 {
			t.Errorf("%v events wait", n)
		}
		w.finish()
	})
}

// TestEventsUnderKills kills edges, presence processes and brokers, one of a
// kind at a time, while sessions begin, end and leave channels.
func TestEventsUnderKills(t *testing.T) {
	t.Parallel()
	seeds, rounds := uint64(1), 1
	if *all {
		seeds, rounds = 8, 6
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWitnesses(t, seed, 3, 3, 3)
				random := rand.New(rand.NewPCG(seed, 2))
				for i := range rounds {
					w.round(i, random)
				}
				w.finish()
			})
		})
	}
}

// round is some minutes in which each kind of process dies once.
func (w *witnesses) round(n int, random *rand.Rand) {
	w.t.Helper()
	name := func(what string) string { return fmt.Sprintf("%s-%d", what, n) }
	victim := func(kind string) string { return fmt.Sprintf("%s-%d", kind, random.IntN(3)) }
	edge, presence, broker := victim("edge"), victim("presence"), victim("broker")
	var others []string
	for _, e := range []string{"edge-0", "edge-1", "edge-2"} {
		if e != edge {
			others = append(others, e)
		}
	}
	stays := w.Connect(comettest.Profile{Name: name("stays"), Edges: append([]string{edge}, others...), Channels: []string{own(name("stays"))}})
	leaves, vanishes, parts := w.join(name("leaves"), others[0]), w.join(name("vanishes"), others[1]), w.join(name("parts"), others[0])
	orphan := w.join(name("orphan"), edge)
	before := []int{w.told[0].Leaves("/all"), w.told[1].Leaves("/all")}
	time.Sleep(2 * time.Second)

	type act struct {
		at time.Duration
		do func()
	}
	within := func(d time.Duration) time.Duration { return time.Duration(random.Int64N(int64(d))) }
	dies, end := within(20*time.Second), w.Crash
	if random.IntN(3) == 0 {
		end = w.Stop
	}
	acts := []act{
		{dies, func() { orphan.Vanish(); w.Crash(edge) }},
		{dies + within(100*time.Second), func() { end(presence) }},
		{within(30 * time.Second), func() { w.Crash(broker) }},
		{dies + 20*time.Second + within(60*time.Second), leaves.Leave},
		{within(20 * time.Second), vanishes.Vanish},
		{dies + 20*time.Second + within(60*time.Second), func() {
			if err := parts.Unsubscribe("/all"); err != nil {
				w.t.Error(err)
			}
		}},
	}
	for cut := within(10 * time.Second); cut < 3*time.Minute; cut += within(20 * time.Second) {
		acts = append(acts,
			act{cut, func() { w.Net.Cut("watcher", victim("presence")) }},
			act{cut + within(10*time.Second), func() { w.Net.Cut(victim("edge"), victim("presence")) }})
	}
	slices.SortFunc(acts, func(a, b act) int { return int(a.at - b.at) })
	begun := time.Now()
	for _, a := range acts {
		time.Sleep(a.at - time.Since(begun))
		a.do()
	}
	time.Sleep(30 * time.Second)
	for _, node := range []string{edge, presence, broker} {
		w.Start(node)
	}
	w.Ready(time.Minute)
	w.Balanced(2 * time.Minute)
	time.Sleep(2 * time.Minute)

	w.check(name("leaves"), "disconnect", "vanished") // if a report of it was cut off
	w.check(name("vanishes"), "expired", "vanished")
	w.check(name("orphan"), "lost")
	w.check(name("parts"))
	if len(stays.Of(comettest.Session)) == 1 {
		w.check(name("stays"))
	}
	for i, e := range w.told {
		if got := e.Leaves(own(name("stays"))); got > 0 {
			w.t.Errorf("round %d: witness %d was told of %d leaves of who stayed", n, i, got)
		}
		if e.Leaves("/all") == before[i] {
			w.t.Errorf("round %d: witness %d was not told who left", n, i)
		}
	}
	parts.Leave()
	stays.Leave()
}

// TestEventsDoors: events can be had by REST, from any position that was given
// and no other, and at no other door.
func TestEventsDoors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := comettest.New(t, comettest.Options{Edges: 1, Brokers: 1, Presence: 1, Configure: func(_ string, cfg *config.Config) {
			cfg.Broker.AnyPattern = true
		}})
		overheard := c.Client("eavesdropper", "edge-0", "/**")
		backend := c.Backend("backend")[0]
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stream, err := backend.Subscribe(ctx, &pubsubv1.SubscribeRequest{Channels: []string{"/**"}})
		if err != nil {
			t.Fatal(err)
		}
		var heard atomic.Int64
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				resp, err := stream.Recv()
				if err != nil {
					return
				}
				if resp.GetMessage() != nil {
					heard.Add(1)
				}
			}
		}()
		for i := range 3 {
			client := c.Client(fmt.Sprint("c", i), "edge-0", own(fmt.Sprint("c", i)))
			time.Sleep(time.Second) // presence hears of it
			client.Leave()
		}
		time.Sleep(5 * time.Second)

		get := func(after string) (status int, lines []string) {
			t.Helper()
			return c.Lines("http://presence-0:8081/v1/presence/events?after="+after, 5*time.Second)
		}
		status, lines := get("earliest")
		var ends []string
		positions := []string{}
		for _, line := range lines {
			var got struct {
				Result struct {
					Position string
					Event    *struct {
						ID           string
						Disconnected struct {
							Reason   string
							Channels []string
						}
					}
				}
			}
			if err := json.Unmarshal([]byte(line), &got); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			if got.Result.Event != nil {
				positions = append(positions, got.Result.Position)
				ends = append(ends, got.Result.Event.Disconnected.Reason+fmt.Sprint(got.Result.Event.Disconnected.Channels))
			}
		}
		slices.Sort(ends)
		want := []string{"disconnect[/own/c0]", "disconnect[/own/c1]", "disconnect[/own/c2]"}
		if status != 200 || !slices.Equal(ends, want) {
			t.Fatalf("%d: %v, want %v", status, ends, want)
		}
		for i, position := range positions { // each brings what came after it
			if _, lines := get(position); strings.Count(strings.Join(lines, ""), `"event":{`) != len(positions)-1-i {
				t.Errorf("after event %d come %v", i, lines)
			}
		}
		ones := base64.RawURLEncoding.EncodeToString(append([]byte{1}, bytes.Repeat([]byte{0, 0, 0, 0, 0, 0, 1}, 16)...))
		for after, reason := range map[string]string{
			"yesterday": "CURSOR_INVALID", "AQ": "CURSOR_INVALID", positions[0] + "A": "CURSOR_INVALID",
			strings.Repeat("A", 4000): "CURSOR_INVALID", ones: "HISTORY_LOST",
		} {
			status, lines := get(after)
			if text := strings.Join(lines, ""); status != 400 || !strings.Contains(text, reason) {
				t.Errorf("after %.20s: %d %s, want %s", after, status, text, reason)
			}
		}
		cancel()
		<-done
		if n := heard.Load() + int64(len(overheard.Of(comettest.Event))); n > 0 {
			t.Errorf("%d events of Comet's own were overheard", n)
		}
	})
}

// TestEventsAfterQuietHours resumes a watch that was away for longer than slots
// remember channels in which nothing stands, while others kept them busy:
// nothing happened, so nothing is lost.
func TestEventsAfterQuietHours(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := comettest.New(t, comettest.Options{Edges: 1, Brokers: 1, Presence: 1})
		position := func() string {
			_, lines := c.Lines("http://presence-0:8081/v1/presence/events", 5*time.Second)
			var got struct{ Result struct{ Position string } }
			if err := json.Unmarshal([]byte(lines[0]), &got); err != nil {
				t.Fatal(err)
			}
			return got.Result.Position
		}
		time.Sleep(time.Minute)
		before := position()
		backend := c.Backend("backend")[0]
		for i := range 1000 { // channels that are used once
			req := &pubsubv1.PublishRequest{Channel: fmt.Sprintf("/once/%d", i), Data: []byte("1")}
			if _, err := backend.Publish(t.Context(), req); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(70 * time.Minute)
		status, lines := c.Lines("http://presence-0:8081/v1/presence/events?after="+before, 5*time.Second)
		if status != 200 || strings.Contains(strings.Join(lines, ""), `"event":{`) {
			t.Errorf("%d: %v", status, lines)
		}
	})
}
