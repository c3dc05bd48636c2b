package comettest_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/internal/comettest"
	"github.com/comet-push/comet/internal/config"
)

// repeated is how old what comes again may be when an edge died: vectors are as
// of three seconds ago, made once a second and sent once a second, and a client
// notices late.
const repeated = 9 * time.Second

// homes are clients of three edges, and publishers, in a cluster with two
// presence processes.
type homes struct {
	*comettest.Cluster

	t          *testing.T
	clients    []*comettest.Client
	publishers []*comettest.Publisher
}

func newHomes(t *testing.T, profiles ...comettest.Profile) *homes {
	t.Helper()
	h := &homes{t: t, Cluster: comettest.New(t, comettest.Options{
		Edges: 3, Brokers: 1, Presence: 2,
		Configure: func(_ string, cfg *config.Config) {
			for i := range cfg.Namespaces {
				cfg.Namespaces[i].Messages = 1000 // more than the longest fault takes
			}
		},
	})}
	for i, p := range profiles {
		p.Name = fmt.Sprintf("client-%d", i)
		p.Edges = []string{"edge-0", "edge-1", "edge-2"}
		p.Channels = []string{"/busy/*", "/calm/a"}
		h.clients = append(h.clients, h.Connect(p))
	}
	h.publishers = []*comettest.Publisher{
		h.PublishAs(comettest.Publishing{Channel: "/busy/a", Every: 130 * time.Millisecond, Manner: comettest.Keyed}),
		h.PublishAs(comettest.Publishing{Channel: "/busy/b", Every: 700 * time.Millisecond, Manner: comettest.Keyed}),
		h.PublishAs(comettest.Publishing{Channel: "/calm/a", Every: 4 * time.Second, Manner: comettest.Streamed}),
	}
	time.Sleep(10 * time.Second)
	return h
}

// check checks what the clients were told, and that all had one session.
func (h *homes) check() {
	h.t.Helper()
	settle(h.t, h.publishers)
	for _, name := range []string{"presence-0", "presence-1"} {
		if n := h.Value(name, "comet_presence_mismatches_total"); n > 20 { // some may be of sessions on the move
			h.t.Errorf("%s knew other sessions than edges %v times", name, n)
		}
	}
	for _, client := range h.clients {
		if err := comettest.Check(client, h.publishers...); err != nil {
			h.t.Error(err)
		}
		if n := len(client.Of(comettest.Session)); n != 1 {
			h.t.Errorf("%s had %d sessions, want one: %v", client.Name, n, client.Of(comettest.Session))
		}
		if resyncs := client.Of(comettest.Resync); len(resyncs) > 0 {
			h.t.Errorf("%s was told %d losses where nothing was lost: %v", client.Name, len(resyncs), resyncs)
		}
	}
}

// clients are one of each kind. Those with the ack extension see nothing twice,
// whatever becomes of edges.
func clients() []comettest.Profile {
	return []comettest.Profile{
		{Repeats: repeated},
		{Ack: true},
		{Repeats: repeated, Roams: true},
		{Roams: true, Ack: true},
		{Ack: true, Transport: comettest.WebSocket},
		{Repeats: repeated, Transport: comettest.WebSocket},
	}
}

// TestEdgeDies crashes the edge that is the home of sessions: they go on at
// another, and nothing is lost.
func TestEdgeDies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHomes(t, clients()...)
		h.Crash("edge-0")
		time.Sleep(time.Minute)
		h.check()
	})
}

// TestEdgesDie crashes one edge after the other, each started again meanwhile.
func TestEdgesDie(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHomes(t, clients()...)
		for i := range 3 {
			name := fmt.Sprintf("edge-%d", i%3)
			h.Crash(name)
			time.Sleep(40 * time.Second)
			h.Start(name)
			h.Ready(time.Minute)
			time.Sleep(20 * time.Second)
		}
		h.check()
	})
}

// TestSettling has clients settle at another edge: their sessions move there,
// once, and nothing comes twice.
func TestSettling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHomes(t, comettest.Profile{}, comettest.Profile{Ack: true})
		time.Sleep(time.Minute) // sessions stay for a minute
		for _, client := range h.clients {
			client.Move()
		}
		time.Sleep(time.Minute)
		h.Crash("edge-0") // where nobody has his home any more
		time.Sleep(20 * time.Second)
		h.check()
		for _, client := range h.clients {
			if cuts := client.Of(comettest.Cut); len(cuts) > 1 {
				t.Errorf("%s: %d requests were cut, want that of its move alone", client.Name, len(cuts))
			}
		}
	})
}

// TestSocketMoves has a client connect a WebSocket to another edge: its session
// follows at once.
func TestSocketMoves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHomes(t, comettest.Profile{Ack: true, Transport: comettest.WebSocket}, comettest.Profile{Transport: comettest.WebSocket})
		for range 3 {
			for _, client := range h.clients {
				client.Move()
			}
			time.Sleep(20 * time.Second)
		}
		h.check()
	})
}

// TestEdgeDrains stops the edge that is the home of sessions: they go on at
// another, and nothing is lost or comes twice.
func TestEdgeDrains(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHomes(t,
			comettest.Profile{}, comettest.Profile{Ack: true}, comettest.Profile{Roams: true},
			comettest.Profile{Roams: true, Ack: true}, comettest.Profile{Ack: true, Transport: comettest.WebSocket},
			comettest.Profile{Transport: comettest.WebSocket},
		)
		for i := range 3 {
			name := fmt.Sprintf("edge-%d", i%3)
			h.Stop(name)
			time.Sleep(10 * time.Second)
			h.Start(name)
			h.Ready(time.Minute)
			time.Sleep(10 * time.Second)
		}
		h.check()
		for _, client := range h.clients {
			if !client.Roams { // one that comes to an edge that is down may think that an answer was lost
				onceEach(t, client)
			}
		}
	})
}

// TestEdgeLosesTouch cuts an edge off from the store for longer than its lease:
// it keeps its sessions, and claims them again when it is back. Then it dies.
func TestEdgeLosesTouch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHomes(t, comettest.Profile{Repeats: repeated}, comettest.Profile{Ack: true})
		h.Node("edge-0").Directory.Disconnect(true)
		time.Sleep(30 * time.Second)
		h.Node("edge-0").Directory.Disconnect(false)
		time.Sleep(30 * time.Second)
		for _, client := range h.clients {
			if cuts := client.Of(comettest.Cut); len(cuts) > 0 {
				t.Errorf("%s: %d requests were cut", client.Name, len(cuts))
			}
		}
		h.Crash("edge-0")
		time.Sleep(30 * time.Second)
		h.check()
	})
}

// TestHoldersDie crashes both holders of records, one after the other, and an
// edge: sessions go on, for edges tell those that come after them.
func TestHoldersDie(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHomes(t,
			comettest.Profile{Repeats: repeated}, comettest.Profile{Ack: true},
			comettest.Profile{Roams: true, Ack: true},
		)
		for _, name := range []string{"presence-0", "presence-1"} {
			h.Crash(name)
			time.Sleep(20 * time.Second)
			h.Start(name)
			h.Ready(time.Minute)
			time.Sleep(20 * time.Second)
		}
		h.Crash("presence-0")
		time.Sleep(10 * time.Second)
		h.Crash("edge-0")
		time.Sleep(30 * time.Second)
		h.check()
	})
}

// TestOverIsOver has clients end their sessions, and asks all edges for these at
// once: no record brings them back.
func TestOverIsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHomes(t, comettest.Profile{}, comettest.Profile{Ack: true}, comettest.Profile{Roams: true})
		browser := h.HTTP("browser")
		for _, client := range h.clients {
			id := client.ID()
			client.Leave()
			for _, wait := range []time.Duration{0, 50 * time.Millisecond, time.Minute} {
				time.Sleep(wait)
				for _, edge := range client.Edges {
					connect := fmt.Sprintf(`[{"channel":"/meta/connect","connectionType":"long-polling","clientId":%q}]`, id)
					resp, err := browser.Post("http://"+edge+":8080/cometd", "application/json", strings.NewReader(connect))
					if err != nil {
						t.Fatal(err)
					}
					body, err := io.ReadAll(resp.Body)
					if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), `"402:`) {
						t.Errorf("%s, after %v, at %s: %s %s %v", client.Name, wait, edge, resp.Status, body, err)
					}
					_ = resp.Body.Close() // it has been read
				}
			}
		}
	})
}
