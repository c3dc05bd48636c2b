package edge

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	"github.com/comet-push/comet/internal/shard"
)

// TestReadsAreShared has a storm of clients ask for the same history, and some for
// other: brokers are asked for what waits together once.
func TestReadsAreShared(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		fill(w, 1, 5)
		w.broker.delay = 10 * time.Millisecond
		const clients, others = 300, 30
		var storm sync.WaitGroup
		for i := range clients + others {
			path, want := "/channels/a/0?since=2", "/a/0=2 /a/0=3 /a/0=4"
			if i >= clients {
				path, want = fmt.Sprintf("/channels/a/0?since=3&limit=%d", 2+i-clients), "/a/0=3 /a/0=4"
			}
			storm.Go(func() {
				if got := w.get(path).messages(); got != want {
					w.t.Errorf("%s: got %s, want %s", path, got, want)
				}
			})
		}
		storm.Wait()
		// Those that come while none waits begin at once, up to as many as there is room for.
		if most := others + 2*readersAtOnce; w.broker.reads > most {
			t.Errorf("brokers were asked %d times, want at most %d", w.broker.reads, most)
		}
		t.Logf("%d reads for %d clients", w.broker.reads, clients+others)
	})
}

// slowReader is a broker whose answers, once made, wait on their way.
type slowReader struct {
	Reader

	began, goOn chan struct{}
}

func (r *slowReader) ReadAtLeast(ctx context.Context, req *brokerv1.ReadRequest, known uint64) (*brokerv1.ReadResponse, error) {
	response, err := r.Reader.ReadAtLeast(ctx, req, known)
	r.began <- struct{}{}
	<-r.goOn
	return response, err
}

// TestReadIsNotOlderThanItsQuestion has somebody ask while the same read is under
// way: what was published meanwhile is in the answer.
func TestReadIsNotOlderThanItsQuestion(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		r := newReads()
		slow := &slowReader{began: make(chan struct{}), goOn: make(chan struct{}), Reader: w.broker}
		r.reader = slow
		go func() { _ = r.Run(w.t.Context()) }()
		w.broker.publish("/a", "1")
		synctest.Wait()
		asked := page{slot: shard.Of("/a"), channels: []string{"/a"}, limit: 10}
		answers := make(chan int, 2)
		tell := func(a answer) { answers <- len(a.events) }
		r.ask(asked, tell)
		<-slow.began
		w.broker.publish("/a", "2")
		synctest.Wait()
		r.ask(asked, tell)
		slow.goOn <- struct{}{}
		<-slow.began
		slow.goOn <- struct{}{}
		if first, second := <-answers, <-answers; first+second != 3 {
			t.Errorf("%d and %d messages were read, want 1 and 2 in some order", first, second)
		}
	})
}
