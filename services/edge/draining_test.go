package edge

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/namespace"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/run"
	"github.com/comet-push/comet/internal/shard"
)

// watcher takes the progress of a drain.
type watcher struct {
	grpc.ServerStreamingServer[edgev1.DrainResponse]

	ctx  context.Context
	seen []*edgev1.DrainResponse
	at   []time.Time
}

func (w *watcher) Context() context.Context { return w.ctx }

func (w *watcher) Send(p *edgev1.DrainResponse) error {
	w.seen, w.at = append(w.seen, p), append(w.at, time.Now())
	return nil
}

// TestDrainByOrder drains an edge that stays: clients are sent away over the
// window, progress comes at least once a second, and SIGTERM after it ends at
// once.
func TestDrainByOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{DrainWindow: 4 * time.Second}, namespace.Open())
		w.start()
		k := w.socket().open("/a")
		k.hold()
		var polls []*poll
		for range 8 {
			polls = append(polls, w.client().open("/a").poll(t.Context()))
		}
		returns := func() (again func()) {
			c := w.client().open("/a")
			record, _ := (*presence)(w.service).State(publicID(c.clientID))
			c.send(message{"channel": "/meta/disconnect"})
			return func() { c.adopt(nil, record, nil) } // its client asked for something
		}
		meanwhile, late := returns(), returns()
		server := &deliverServer{s: w.service}
		refused := server.Drain(&edgev1.DrainRequest{}, &watcher{ctx: t.Context()})
		if rpc.Reason(refused) != channelv1.ErrorReason_ERROR_REASON_ORDER_REFUSED || errors.Is(w.service.Ready(), run.ErrDraining) {
			t.Fatalf("alone: %v", refused)
		}
		first, second := &watcher{ctx: t.Context()}, &watcher{ctx: t.Context()}
		ended := make(chan error, 2)
		go func() { ended <- server.Drain(&edgev1.DrainRequest{Force: true}, first) }()
		begun := time.Now()
		time.Sleep(time.Second)
		if got := w.value("comet_edge_drain_state"); got != 1 {
			t.Errorf("the state is %v", got)
		}
		meanwhile()
		go func() { ended <- server.Drain(&edgev1.DrainRequest{}, second) }() // attaches
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(begun); took > 8*time.Second {
			t.Errorf("the drain took %v", took)
		}
		for _, watch := range []*watcher{first, second} {
			last := watch.seen[len(watch.seen)-1]
			if !last.GetDone() || last.GetSessions()+last.GetSockets()+last.GetReaders()+last.GetWaiting() != 0 || last.GetSentAway() != 9 {
				t.Errorf("the last progress is %v", last)
			}
			for i := 1; i < len(watch.at); i++ {
				if gap := watch.at[i].Sub(watch.at[i-1]); gap > time.Second {
					t.Errorf("no progress for %v", gap)
				}
			}
		}
		if p := second.seen[0]; p.GetSentAway() == 0 || p.GetWaiting() == 0 {
			t.Errorf("who asks again sees %v first", p)
		}
		for i, p := range polls {
			p.events(t)
			if reply := p.answer[len(p.answer)-1]; reply["advice"] == nil {
				t.Errorf("poll %d is answered %v", i, reply)
			}
		}
		if code := k.closed(); code != closeRestart {
			t.Errorf("the socket was closed with %d", code)
		}
		if err := w.service.Ready(); !errors.Is(err, run.ErrDraining) {
			t.Errorf("a drained edge says %v", err)
		}
		if reply := w.client().handshake(); reply["successful"] != false || !strings.HasPrefix(reply["error"].(string), "503") {
			t.Errorf("a handshake is answered %v", reply)
		}
		if got := w.value("comet_edge_drain_state"); got != 2 {
			t.Errorf("the state is %v", got)
		}
		late()
		if n := w.service.registry.len(); n != 1 {
			t.Errorf("%d sessions were brought here", n)
		}
		time.Sleep(time.Second)
		if n := w.service.registry.len(); n != 0 {
			t.Errorf("%d sessions stay at a drained edge", n)
		}
		time.Sleep(time.Minute)
		began := time.Now()
		w.end(run.ErrDraining)
		if took := time.Since(began); took > time.Second {
			t.Errorf("SIGTERM took %v", took)
		}
	})
}

// TestResumableFirst drains clients of all kinds: those that lose nothing go
// first.
func TestResumableFirst(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		rows := map[shard.PresenceShard]shard.Holders{}
		for n := range shard.PresenceShard(shard.PresenceShards) {
			rows[n] = shard.Holders{First: "presence-0@p0", Version: 1}
		}
		for range 5 {
			w.client().open("/a")
			w.socket().open("/a")
		}
		for _, records := range []*shard.HolderTable{nil, new(shard.HolderTable).With(rows)} {
			w.service.edges.see(membership.View{Presence: records})
			first := 0
			all := w.service.drainers()
			for first < len(all) && all[first].resumable() {
				first++
			}
			for _, d := range all[first:] {
				if d.resumable() {
					w.t.Error("one that can go on comes after one that cannot")
				}
			}
			if want := map[bool]int{true: 5}[records != nil]; first != want || len(all) != 10 {
				w.t.Errorf("%d of %d can go on, want %d", first, len(all), want)
			}
		}
		w.service.edges.see(membership.View{})
	})
}
