package comettest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	presencev1 "github.com/comet-push/comet/gen/comet/presence/v1"
	"github.com/comet-push/comet/internal/comettest"
	"github.com/comet-push/comet/internal/config"
	"github.com/comet-push/comet/internal/namespace"
	"github.com/comet-push/comet/internal/rpc"
)

const (
	room  = "/room/a"
	watch = "/presence" + room
)

// shown is what a page shows that does what it is told of a roster.
type shown struct {
	Count     int
	Truncated bool
	Members   map[string]bool
	ever      map[string]bool // that it has shown
	flapped   []string        // that it does not show any more, and did
}

type told struct {
	Count     int
	Truncated bool
	Members   *[]struct{ Session string }
	Joined    []struct{ Session string }
	Left      []struct{ Session string }
}

// show is what a client shows in the end.
func show(t *testing.T, client *comettest.Client) *shown {
	t.Helper()
	s := &shown{ever: map[string]bool{}}
	for _, r := range client.History() {
		if r.Kind == comettest.Session {
			s.Members = nil
		}
		if r.Kind != comettest.Event || r.Channel != watch {
			continue
		}
		var m told
		if err := json.Unmarshal([]byte(r.Data), &m); err != nil {
			t.Fatalf("%s: %s: %v", client.Name, r.Data, err)
		}
		s.Count, s.Truncated = m.Count, m.Truncated
		switch {
		case m.Members != nil:
			s.Members = map[string]bool{}
			for _, each := range *m.Members {
				s.Members[each.Session] = true
			}
			for session := range s.ever {
				if !s.Members[session] {
					s.flapped = append(s.flapped, session)
				}
			}
		case m.Truncated:
			s.Members = nil
		}
		for _, each := range m.Left {
			delete(s.Members, each.Session)
			s.flapped = append(s.flapped, each.Session)
		}
		for _, each := range m.Joined {
			s.Members[each.Session] = true
		}
		maps.Copy(s.ever, s.Members)
	}
	return s
}

// present is who is on a channel.
func present(t *testing.T, c *comettest.Cluster, channel string) map[string]bool {
	t.Helper()
	pool := rpc.NewPool(c.Net.Dial("observer"))
	defer func() { _ = pool.Close() }() // the calls have been answered
	conn, err := pool.Conn("presence-0:9090")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	roster, err := presencev1.NewPresenceServiceClient(conn).GetRoster(ctx, &presencev1.GetRosterRequest{Channel: channel})
	if err != nil {
		t.Fatal(err)
	}
	sessions := map[string]bool{}
	for _, m := range roster.GetMembers() {
		sessions[m.GetSession()] = true
	}
	return sessions
}

// TestRosters lets clients come to a room and go while edges and presence
// processes die, drain and come back. In the end all who watch show who is there,
// and nobody who was there all the time was shown to leave.
func TestRosters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := comettest.New(t, comettest.Options{Edges: 3, Brokers: 1, Presence: 2})
		edges := []string{"edge-0", "edge-1", "edge-2"}
		connect := func(n int, p comettest.Profile) *comettest.Client {
			p.Edges = slices.Concat(edges[n%3:], edges[:n%3])
			return c.Connect(p)
		}
		var watchers []*comettest.Client
		for i, p := range []comettest.Profile{
			{}, {Ack: true}, {Roams: true}, {Transport: comettest.WebSocket}, {Transport: comettest.WebSocket, Ack: true},
		} {
			p.Name, p.Channels = fmt.Sprintf("watcher-%d", i), []string{watch}
			watchers = append(watchers, connect(i, p))
		}
		for i := range 6 {
			connect(i, comettest.Profile{
				Name: fmt.Sprintf("resident-%d", i), Ack: i%2 == 0, Roams: i == 3, Channels: []string{room, "/room/b"},
			})
		}
		time.Sleep(2 * time.Second)
		residents := present(t, c, room)
		if len(residents) != 6 {
			t.Fatalf("%d are there, want 6", len(residents))
		}
		var guests []*comettest.Client
		faults := []struct {
			node   string
			happen func(name string)
		}{
			{"edge-0", c.Crash},
			{"edge-1", c.Stop},
			{"presence-0", c.Crash},
			{"edge-2", c.Crash},
			{"presence-1", c.Stop},
			{"edge-0", c.Stop},
			{"presence-1", c.Crash},
			{"edge-1", c.Crash},
		}
		for i, fault := range faults {
			for j := range 4 {
				name := fmt.Sprintf("guest-%d-%d", i, j)
				guests = append(guests, connect(i+j, comettest.Profile{Name: name, Channels: []string{room}}))
				time.Sleep(100 * time.Millisecond)
			}
			guests[4*i].Vanish() // at the edge that goes, or at one that stays
			fault.happen(fault.node)
			time.Sleep(3 * time.Second)
			guests[4*i+1].Leave()
			time.Sleep(20 * time.Second)
			c.Start(fault.node)
			c.Ready(time.Minute)
			time.Sleep(10 * time.Second)
			guests[4*i+2].Leave()
		}
		c.Node("edge-2").Directory.Disconnect(true) // its sessions are lost, as far as presence knows
		time.Sleep(30 * time.Second)
		c.Node("edge-2").Directory.Disconnect(false)
		for _, edge := range edges {
			c.Net.Cut(edge, "presence-0")
		}
		time.Sleep(2 * time.Minute) // presence waits for who may come back
		truth := present(t, c, room)
		if len(truth) != len(residents)+len(faults) {
			t.Errorf("%d are there, want %d", len(truth), len(residents)+len(faults))
		}
		for _, w := range watchers {
			s := show(t, w)
			if !maps.Equal(s.Members, truth) || s.Count != len(truth) {
				t.Errorf("%s shows %v, want %v", w.Name, s.Members, truth)
			}
			for _, session := range s.flapped {
				if residents[session] {
					t.Errorf("%s was told that %s left, which was there all the time", w.Name, session)
				}
			}
			if n := len(w.Of(comettest.Resync)); n > 0 {
				t.Errorf("%s was told %d losses", w.Name, n)
			}
			w.Leave()
		}
		time.Sleep(time.Minute) // goodbyes may be lost
		for _, edge := range edges {
			if n := c.Value(edge, "comet_edge_rosters"); n != 0 {
				t.Errorf("%s follows %v rosters that nobody watches", edge, n)
			}
		}
	})
}

// TestRosterPace has clients come and go all the time: who watches is told four
// times a second at most, and soon.
func TestRosterPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := comettest.New(t, comettest.Options{Edges: 2, Brokers: 1, Presence: 2})
		watcher := c.Connect(comettest.Profile{Name: "watcher", Edges: []string{"edge-0"}, Transport: comettest.WebSocket, Channels: []string{watch}})
		time.Sleep(2 * time.Second)
		for i := range 40 {
			guest := c.Connect(comettest.Profile{Name: fmt.Sprint("guest-", i), Edges: []string{"edge-1"}, Channels: []string{room}})
			if i%2 == 0 {
				guest.Leave()
			}
		}
		time.Sleep(time.Second) // less than what a change may be late
		s := show(t, watcher)
		if s.Count != 20 || !maps.Equal(s.Members, present(t, c, room)) {
			t.Errorf("%d are shown, want 20", s.Count)
		}
		events := watcher.Of(comettest.Event)
		for i := range len(events) - 1 {
			if gap := events[i+1].At.Sub(events[i].At); gap < 200*time.Millisecond {
				t.Errorf("told again after %v", gap)
			}
		}
		if len(events) < 3 {
			t.Errorf("%d messages in all", len(events))
		}
	})
}

// TestRosterGrace crashes an edge of which one client comes back, and another does
// not, in a namespace that does not wait long: it leaves its roster soon, but not
// that of another channel.
func TestRosterGrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := comettest.New(t, comettest.Options{Edges: 2, Brokers: 1, Presence: 2, Configure: func(_ string, cfg *config.Config) {
			cfg.Namespaces = append([]namespace.Options{
				{Pattern: room, Subscribe: namespace.Anyone, PresenceGrace: 5 * time.Second},
			}, cfg.Namespaces...)
		}})
		watcher := c.Client("watcher", "edge-1", watch)
		c.Connect(comettest.Profile{Name: "returns", Edges: []string{"edge-0", "edge-1"}, Channels: []string{room, "/room/b"}})
		lost := c.Client("lost", "edge-0", room, "/room/b")
		time.Sleep(2 * time.Second)
		lost.Vanish()
		c.Crash("edge-0")
		time.Sleep(11 * time.Second) // a lease of 3 s, the grace, and a bit
		if s := show(t, watcher); s.Count != 1 || !maps.Equal(s.Members, present(t, c, room)) || len(s.flapped) != 1 {
			t.Errorf("shown are %v, want one; %v left", s.Members, s.flapped)
		}
		if n := len(present(t, c, "/room/b")); n != 2 {
			t.Errorf("%d are on another channel, want 2", n)
		}
		time.Sleep(2 * time.Minute)
		if n := len(present(t, c, "/room/b")); n != 1 {
			t.Errorf("%d are on another channel in the end, want 1", n)
		}
	})
}

// TestRosterModes watches channels of which only the count, or nothing, may be
// told, and what is not there.
func TestRosterModes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := comettest.New(t, comettest.Options{Edges: 1, Brokers: 1, Presence: 1, Configure: func(_ string, cfg *config.Config) {
			cfg.Namespaces = append([]namespace.Options{
				{Pattern: "/hidden/*", Subscribe: namespace.Anyone, Presence: namespace.Off},
				{Pattern: "/closed/*"},
				{Pattern: room, Subscribe: namespace.Anyone, Presence: namespace.Count},
			}, cfg.Namespaces...)
		}})
		c.Client("member", "edge-0", room)
		watcher := c.Client("watcher", "edge-0", watch)
		time.Sleep(2 * time.Second)
		events := watcher.Of(comettest.Event)
		if len(events) == 0 || events[len(events)-1].Data != `{"count":1}` {
			t.Errorf("told %v, want a count of 1", events)
		}
		for _, channel := range []string{
			"/presence/hidden/a", "/presence/closed/a", "/presence/presence/room/a", "/presence/*", "/presence/**",
			"/presence/room/*", "/presence/service/a", "/presence/meta/connect",
		} {
			if reply := subscribeTo(t, c, channel); reply != "403:denied_by_security_policy:subscribe_denied" {
				t.Errorf("subscribing to %s: %q", channel, reply)
			}
		}
	})
}

// subscribeTo makes a session that subscribes, and returns why it may not.
func subscribeTo(t *testing.T, c *comettest.Cluster, channel string) string {
	t.Helper()
	browser, id := c.HTTP("browser"), ""
	for _, message := range []string{
		`{"channel":"/meta/handshake","version":"1.0","supportedConnectionTypes":["long-polling"]}`,
		fmt.Sprintf(`{"channel":"/meta/subscribe","subscription":%q`, channel),
	} {
		if id != "" {
			message += fmt.Sprintf(`,"clientId":%q}`, id)
		}
		resp, err := browser.Post("http://edge-0:8080/cometd", "application/json", strings.NewReader("["+message+"]"))
		if err != nil {
			t.Fatal(err)
		}
		var replies []struct{ ClientID, Error string }
		if err := errors.Join(json.NewDecoder(resp.Body).Decode(&replies), resp.Body.Close()); err != nil || len(replies) != 1 {
			t.Fatalf("%v, %v", replies, err)
		}
		if id != "" {
			return replies[0].Error
		}
		id = replies[0].ClientID
	}
	return ""
}
