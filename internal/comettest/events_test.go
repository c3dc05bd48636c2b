package comettest_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

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
		time.Sleep(5 * time.Second)
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
