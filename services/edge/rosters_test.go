package edge

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	presencev1 "github.com/comet-push/comet/gen/comet/presence/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/rpc"
)

// fakePresence is a presence process that says what a test has it say, of one
// roster.
type fakePresence struct {
	edgev1.UnimplementedRosterServiceServer

	mu      sync.Mutex
	follows int
	say     chan *edgev1.RosterChange // nil: the stream breaks
	asked   *edgev1.FollowRequest
}

// Follow implements [edgev1.RosterServiceServer].
func (p *fakePresence) Follow(req *edgev1.FollowRequest, stream grpc.ServerStreamingServer[edgev1.FollowResponse]) error {
	p.mu.Lock()
	p.follows, p.asked = p.follows+1, req
	p.mu.Unlock()
	for {
		select {
		case <-stream.Context().Done():
			return nil
		case c := <-p.say:
			if c == nil {
				return rpc.Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_MOVED, "moved")
			}
			if err := stream.Send(&edgev1.FollowResponse{Change: c}); err != nil {
				return err
			}
		}
	}
}

// besidePresence runs a test with an edge and a presence process.
func besidePresence(t *testing.T, cfg Config, test func(w *world, p *fakePresence)) {
	t.Helper()
	inWorld(t, cfg, func(w *world) {
		p := &fakePresence{say: make(chan *edgev1.RosterChange)}
		server := rpc.NewServer(rpc.ServerConfig{Grace: time.Second}, w.node)
		edgev1.RegisterRosterServiceServer(server, p)
		ctx, stop := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() {
			if err := server.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		running.Go(func() {
			_ = w.directory.Register(ctx, membership.Node{
				Name: "presence-0", ID: "p0", Addr: "presence-0:7070", Roles: []membership.Role{membership.Presence},
			}, nil) // until it is stopped
		})
		w.t.Cleanup(running.Wait)
		defer stop()
		synctest.Wait()
		test(w, p)
	})
}

func whole(sessions ...string) *edgev1.RosterChange {
	c := &edgev1.RosterChange{Count: uint64(len(sessions)), Listed: true, Whole: true}
	for _, s := range sessions {
		c.Joined = append(c.Joined, &presencev1.Member{Session: s})
	}
	return c
}

func came(count uint64, session string) *edgev1.RosterChange {
	return &edgev1.RosterChange{Count: count, Listed: true, Joined: []*presencev1.Member{{Session: session}}}
}

// rosterOf writes news down: = for all there are, + and -, and the count.
func rosterOf(events []message) string {
	var all []string
	for _, e := range events {
		data, _ := e["data"].(map[string]any)
		text := ""
		for _, kind := range []struct{ name, sign string }{{"members", "="}, {"joined", "+"}, {"left", "-"}} {
			list, _ := data[kind.name].([]any)
			for _, m := range list {
				member, _ := m.(map[string]any)
				text += fmt.Sprint(kind.sign, member["session"])
			}
		}
		all = append(all, fmt.Sprint(text, "#", data["count"]))
	}
	return strings.Join(all, " ")
}

// TestRosterIsShared has two sessions watch: the edge asks once, and asks no more
// when both have gone.
func TestRosterIsShared(t *testing.T) {
	besidePresence(t, Config{}, func(w *world, p *fakePresence) {
		one := w.client().open("/presence/a", "/b")
		synctest.Wait()
		held := one.poll(w.t.Context())
		p.say <- whole("x", "y")
		if got := rosterOf(held.events(w.t)); got != "=x=y#2" {
			t.Errorf("first told %s", got)
		}
		two := w.client()
		two.handshake()
		two.want(two.send(message{"channel": "/meta/subscribe", "subscription": "/presence/a"}))
		held = one.poll(w.t.Context())
		if events, _ := two.connect(); rosterOf(events) != "=x=y#2" {
			t.Errorf("the second is told %s", rosterOf(events))
		}
		also := two.poll(w.t.Context())
		p.say <- came(3, "z")
		begun := time.Now()
		p.say <- &edgev1.RosterChange{Count: 2, Listed: true, Left: []string{"x"}}
		for _, each := range []*poll{held, also} {
			if got := rosterOf(each.events(w.t)); got != "+z#3" {
				t.Errorf("told %s", got)
			}
		}
		if got := rosterOf(one.poll(w.t.Context()).events(w.t)); got != "-x#2" || time.Since(begun) != 250*time.Millisecond {
			t.Errorf("told %s after %v", got, time.Since(begun))
		}
		if p.follows != 1 || p.asked.GetChannel() != "/a" || p.asked.GetLimit() != 1000 || w.value("comet_edge_rosters") != 1 {
			t.Errorf("followed %d times, the last %v", p.follows, p.asked)
		}
		one.want(one.send(message{"channel": "/meta/unsubscribe", "subscription": "/presence/a"}))
		two.want(two.send(message{"channel": "/meta/disconnect"}))
		time.Sleep(rosterLinger + time.Second)
		if n := w.value("comet_edge_rosters"); n != 0 {
			t.Errorf("%v rosters are followed", n)
		}
	})
}

// TestRosterBreaks ends the stream to presence: what is known stays, and only what
// differs is told.
func TestRosterBreaks(t *testing.T) {
	besidePresence(t, Config{}, func(w *world, p *fakePresence) {
		b := w.client().open("/presence/a")
		p.say <- whole("x", "y")
		synctest.Wait()
		b.connect()
		held := b.poll(w.t.Context())
		for range 3 {
			p.say <- nil
			p.say <- whole("x", "y")
		}
		time.Sleep(5 * time.Second)
		select {
		case <-held.done:
			t.Errorf("told %s where nothing changed", rosterOf(held.events(w.t)))
		default:
		}
		p.say <- nil
		p.say <- whole("y", "z")
		if got := rosterOf(held.events(w.t)); got != "+z-x#2" {
			t.Errorf("told %s", got)
		}
		if n := w.value("comet_edge_roster_breaks_total"); n != 4 {
			t.Errorf("%v breaks", n)
		}
	})
}

// TestRosterOfSlowWatcher has a watcher not ask for news until its queue is full,
// and overflows: it is told all again, and of no loss.
func TestRosterOfSlowWatcher(t *testing.T) {
	besidePresence(t, Config{QueueMessages: 3}, func(w *world, p *fakePresence) {
		b := w.client().open("/presence/a", "/b")
		p.say <- whole("s0")
		synctest.Wait()
		for n := range 5 { // more than fit
			p.say <- came(uint64(n+2), fmt.Sprint("s", n+1))
			time.Sleep(time.Second)
		}
		events, reply := b.connect()
		if got := rosterOf(events); got != "=s0#1 +s1#2 +s2#3" || reply["ext"] != nil {
			t.Errorf("told %s, %v", got, reply["ext"])
		}
		if got := rosterOf(b.poll(w.t.Context()).events(w.t)); got != "=s0=s1=s2=s3=s4=s5#6" {
			t.Errorf("then told %s", got)
		}
		p.say <- came(7, "s6")
		time.Sleep(time.Second)
		for n := range 3 { // of which the last overflows
			w.broker.publish("/b", fmt.Sprint(n))
		}
		synctest.Wait()
		time.Sleep(time.Second)
		events, reply = b.connect()
		if got := fmt.Sprint(reply["ext"]); got != "map[comet:map[resync:[/b]]]" {
			t.Errorf("told of losses: %s", got)
		}
		rosters := slices.DeleteFunc(events, func(e message) bool { return e["channel"] == "/b" })
		if got := rosterOf(rosters); got != "=s0=s1=s2=s3=s4=s5=s6#7" {
			t.Errorf("at last told %s", got)
		}
	})
}

// TestRosterBetweenSockets has a client leave its socket: what was on the way may
// be lost, so it is told all again.
func TestRosterBetweenSockets(t *testing.T) {
	besidePresence(t, Config{}, func(w *world, p *fakePresence) {
		k := w.socket().open("/presence/a")
		p.say <- whole("x")
		synctest.Wait()
		p.say <- came(2, "y")
		synctest.Wait()
		again := w.resume(k)
		again.write(onSocket())
		var news []message
		for _, frame := range again.take() {
			for _, m := range frame {
				if m["channel"] == "/presence/a" {
					news = append(news, m)
				}
			}
		}
		if got := rosterOf(news); got != "=x=y#2" {
			t.Errorf("told %s", got)
		}
	})
}

// TestTooManyRosters refuses a roster beyond those that an edge follows.
func TestTooManyRosters(t *testing.T) {
	besidePresence(t, Config{}, func(w *world, _ *fakePresence) {
		w.service.rosters.room = 1
		b := w.client().open("/presence/a")
		if got := b.send(message{"channel": "/meta/subscribe", "subscription": "/presence/b"})[0]["error"]; got != "429:rosters:limit_exceeded" {
			t.Errorf("refused with %v", got)
		}
		w.client().open("/presence/a")
	})
}
