package edge

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/home"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/session"
)

// handOver takes the session from its home, as another edge does.
func (b *browserClient) handOver() *edgev1.TakeResponse {
	b.w.t.Helper()
	taken, err := b.w.service.hand(b.w.t.Context(), publicID(b.clientID), "edge-9@e9", home.Generation{Count: 2})
	if err != nil {
		b.w.t.Fatal(err)
	}
	return taken
}

// goOn restores the session of a client, which the edge does not know any more,
// after its channels have been let go: from what was taken, or what is recorded.
func (b *browserClient) goOn(taken *edgev1.TakeResponse, record *edgev1.SessionState, vector []uint64) {
	b.w.t.Helper()
	synctest.Wait()
	if n := b.w.service.registry.len(); n != 0 {
		b.w.t.Fatalf("%d sessions are left", n)
	}
	b.w.letChannelsGo()
	b.w.broker.publish("/a", "2")
	b.w.broker.publish("/b/x", "3")
	synctest.Wait()
	b.adopt(taken, record, vector)
}

func (b *browserClient) adopt(taken *edgev1.TakeResponse, record *edgev1.SessionState, vector []uint64) {
	b.w.t.Helper()
	step := home.Step{Do: home.RestoreRecord, Generation: home.Generation{Count: 2}}
	if taken != nil {
		step.Do, step.Exact = home.Restore, taken.GetExact()
	}
	_, err := b.w.service.install(b.clientID, &edgev1.ClaimResponse{
		State: record, Vector: &edgev1.Vector{Offsets: vector},
	}, taken, step)
	if err != nil {
		b.w.t.Fatal(err)
	}
}

// A session that is handed over goes on where it was: with what waits, and what
// was published while it was nowhere.
func TestHandOver(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		b := w.client().open("/a", "/b/*")
		synctest.Wait()
		held := b.poll(w.t.Context())
		w.broker.publish("/a", "1")
		synctest.Wait()
		if got := summary(held.events(t)); got != "/a=1" {
			t.Fatalf("got %s", got)
		}
		held = b.poll(w.t.Context())
		taken := b.handOver()
		if <-held.done; held.status != http.StatusServiceUnavailable {
			t.Errorf("the held connect was answered %d", held.status)
		}
		if again := b.handOver(); !proto.Equal(again, taken) {
			t.Errorf("handed over again: %v, want %v", again, taken)
		}
		b.goOn(taken, nil, nil)
		wantCaughtUp(b)
		if n := w.value("comet_edge_resyncs_total"); n != 0 {
			t.Errorf("%v resyncs", n)
		}
	})
}

// wantCaughtUp checks that a client gets what was published meanwhile, and then
// what is pushed.
func wantCaughtUp(b *browserClient) {
	b.w.t.Helper()
	var all []message
	for n := 0; n < 2 && len(all) < 2; n++ {
		events, reply := b.connect()
		all = append(all, events...)
		if reply["ext"] != nil {
			b.w.t.Errorf("told %v", reply["ext"])
		}
	}
	if got := summary(all); got != "/a=2 /b/x=3" && got != "/b/x=3 /a=2" {
		b.w.t.Errorf("got %s", got)
	}
	held := b.poll(b.w.t.Context())
	b.w.broker.publish("/b/y", "4")
	synctest.Wait()
	if got := summary(held.events(b.w.t)); got != "/b/y=4" {
		b.w.t.Errorf("got %s, want what is pushed", got)
	}
}

// A session of which there is a record goes on from the vector.
func TestRestoreFromRecord(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		b := w.client().open("/a", "/b/*")
		w.broker.publish("/a", "1")
		synctest.Wait()
		if got := summary(b.poll(w.t.Context()).events(t)); got != "/a=1" {
			t.Fatalf("got %s", got)
		}
		c := w.service.registry.find(b.clientID)
		vector := make([]uint64, shard.Slots)
		for slot := range shard.Slot(shard.Slots) {
			vector[slot] = w.service.hub.Handed(slot)
		}
		c.mu.Lock()
		if !c.session.Behind(vector) {
			t.Error("an answer that is not confirmed is passed over")
		}
		c.mu.Unlock()
		state, ok := (*presence)(w.service).State(c.session.PublicID())
		if !ok {
			t.Fatal("no state")
		}
		c.mu.Lock()
		var err error
		state.Resume, err = encodeResume(c.session.Resume(vector, nil))
		c.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		c.end(session.Drained)
		b.goOn(nil, state, vector)
		first, _ := b.connect() // it may have been lost
		if got := summary(first); got != "/a=1 /a=2" && got != "/b/x=3" && got != "/a=1 /a=2 /b/x=3" && got != "/b/x=3 /a=1 /a=2" {
			t.Errorf("got %s", got)
		}
	})
}

// A broker that cannot be reached delays a session, and loses nothing of it.
func TestGoOnWithoutBroker(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		b := w.client().open("/a", "/b/*")
		synctest.Wait()
		taken := b.handOver()
		w.letChannelsGo()
		w.broker.set(true)
		b.adopt(taken, nil, nil)
		held := b.poll(w.t.Context())
		time.Sleep(2*w.service.cfg.JoinTimeout + time.Second)
		if joins := w.broker.joins; joins != 2+2 {
			t.Errorf("%d joins were asked for", joins)
		}
		w.broker.set(false)
		w.broker.Join("/a") // the follower goes on asking
		w.broker.Join("/b/*")
		w.broker.publish("/a", "2")
		w.broker.publish("/b/x", "3")
		got := held.events(t)
		for range 2 - len(got) {
			more, reply := b.connect()
			if got = append(got, more...); reply["ext"] != nil {
				t.Errorf("told %v", reply["ext"])
			}
		}
		if text := summary(got); text != "/a=2 /b/x=3" && text != "/b/x=3 /a=2" {
			t.Errorf("got %s", text)
		}
	})
}
