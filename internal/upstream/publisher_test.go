package upstream_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/run"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/internal/upstream"
)

var quiet = slog.New(slog.DiscardHandler)

// publishing is a running Publisher and what it answered.
type publishing struct {
	*upstream.Publisher
	t    *testing.T
	end  context.CancelCauseFunc
	done chan error

	mu      sync.Mutex
	answers map[string][]result // by data
	order   []string
}

type result struct {
	ack upstream.Ack
	err error
	at  time.Time
}

func startPublisher(t *testing.T, c *cluster, cfg upstream.PublisherConfig) *publishing {
	t.Helper()
	cfg.Directory, cfg.Conns, cfg.Logger = c.dir, c.pool, quiet
	p := &publishing{
		Publisher: upstream.NewPublisher(cfg), t: t,
		done: make(chan error, 1), answers: map[string][]result{},
	}
	ctx, end := context.WithCancelCause(context.Background())
	p.end = end
	go func() { p.done <- p.Run(ctx) }()
	synctest.Wait()
	return p
}

func (p *publishing) stop(cause error) {
	p.t.Helper()
	p.end(cause)
	if err := <-p.done; err != nil {
		p.t.Error(err)
	}
}

func (p *publishing) publish(channel, data string) {
	p.Publish(upstream.Publication{Channel: channel, Data: []byte(data)}, func(a upstream.Ack, err error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.answers[data] = append(p.answers[data], result{a, err, time.Now()})
		p.order = append(p.order, data)
	})
}

// answer returns the only answer to a publish; none yet: ok is false.
func (p *publishing) answer(data string) (r result, ok bool) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.answers[data]
	if len(all) > 1 {
		p.t.Errorf("%s was answered %d times", data, len(all))
	}
	if len(all) == 0 {
		return result{}, false
	}
	return all[0], true
}

// committed checks that publishes were accepted.
func (p *publishing) committed(data ...string) {
	p.t.Helper()
	for _, d := range data {
		if r, ok := p.answer(d); !ok || r.err != nil {
			p.t.Errorf("%s: answered %v, %v; want an acknowledgement", d, ok, r.err)
		}
	}
}

// refused checks that a publish was refused.
func (p *publishing) refused(data string, code codes.Code, reason channelv1.ErrorReason) {
	p.t.Helper()
	r, ok := p.answer(data)
	if !ok || status.Code(r.err) != code || rpc.Reason(r.err) != reason {
		p.t.Errorf("%s: answered %v, %v; want %v %v", data, ok, r.err, code, reason)
	}
}

// inLog returns the data of one channel's entries in the slot's newest log.
func (c *cluster) inLog(channel string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var data []string
	for _, e := range c.slots[shard.Of(channel)].log().entries {
		if e.GetChannel() == channel {
			data = append(data, string(e.GetData()))
		}
	}
	return data
}

// owner returns the broker that owns a channel, and another one.
func (c *cluster) owner(channel string) (owner, other *fakeBroker) {
	for _, b := range c.brokers() {
		if b.node.Member() == c.slots[shard.Of(channel)].row.Primary {
			owner = b
		} else {
			other = b
		}
	}
	return owner, other
}

func names(prefix string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return all
}

func TestPublishReachesTheOwnerInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		p := startPublisher(t, c, upstream.PublisherConfig{})
		defer p.stop(nil)
		all := names("m", 100)
		for _, d := range all {
			p.publish("/a", d)
		}
		synctest.Wait()
		p.committed(all...)
		if got := c.inLog("/a"); !slices.Equal(got, all) {
			t.Errorf("log holds %v", got)
		}
		owner, _ := c.owner("/a")
		var req *brokerv1.Offer
		owner.set(func() {
			owner.script = func(r *brokerv1.Offer) *brokerv1.Answer { req = r; return nil }
		})
		p.publish("/a", "x")
		synctest.Wait()
		if want := c.slots[shard.Of("/a")].row.Version; req.GetVersion() != want || req.GetIdempotencyKey() == "" {
			t.Errorf("sent %v; want version %d and a key", req, want)
		}
	})
}

func TestPublishWaitsForAnOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 0)
		p := startPublisher(t, c, upstream.PublisherConfig{})
		defer p.stop(nil)
		begin := time.Now()
		p.publish("/a", "early")
		time.Sleep(5 * time.Second)
		p.publish("/a", "late")
		time.Sleep(4 * time.Second)
		p.refused("early", codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE)
		if r, _ := p.answer("early"); r.at.Sub(begin) != 8*time.Second {
			t.Errorf("timed out after %v", r.at.Sub(begin))
		}
		c.move(shard.Of("/a"), c.start(), 0, 0)
		time.Sleep(time.Second)
		p.committed("late")
	})
}

func TestPublishIsRefusedWhenTooMuchWaits(t *testing.T) {
	for name, cfg := range map[string]upstream.PublisherConfig{
		"count": {MaxCount: 3},
		"bytes": {MaxPending: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 0)
				p := startPublisher(t, c, cfg)
				for _, d := range names("m", 4) {
					p.publish("/a", d)
				}
				p.refused("m3", codes.ResourceExhausted, channelv1.ErrorReason_ERROR_REASON_BUSY)
				time.Sleep(9 * time.Second)
				p.publish("/a", "again")
				p.stop(nil)
				p.refused("again", codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE)
			})
		})
	}
}

func TestPublishGoesOnAfterAMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		p := startPublisher(t, c, upstream.PublisherConfig{})
		defer p.stop(nil)
		owner, other := c.owner("/a")
		owner.set(func() { owner.delay = 10 * time.Millisecond })
		all := names("m", 50)
		for _, d := range all {
			p.publish("/a", d)
		}
		time.Sleep(105 * time.Millisecond)
		c.move(shard.Of("/a"), other, 50*time.Millisecond, 500*time.Millisecond)
		time.Sleep(2 * time.Second)
		p.committed(all...)
		if got := c.inLog("/a"); !slices.IsSorted(positions(got)) || got[len(got)-1] != "m49" {
			t.Errorf("log holds %v", got)
		}
	})
}

// positions turns m7 into 7.
func positions(data []string) []int {
	all := make([]int, len(data))
	for i, d := range data {
		_, _ = fmt.Sscanf(d, "m%d", &all[i])
	}
	return all
}

func TestPublishIsSentAgainWithItsKeyAfterACut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		p := startPublisher(t, c, upstream.PublisherConfig{})
		defer p.stop(nil)
		owner, _ := c.owner("/a")
		owner.set(func() { owner.delay = 10 * time.Millisecond })
		all := names("m", 20)
		for _, d := range all {
			p.publish("/a", d)
		}
		time.Sleep(105 * time.Millisecond)
		owner.cut()
		time.Sleep(2 * time.Second)
		p.committed(all...)
		if got := c.inLog("/a"); !slices.Equal(got, all) {
			t.Errorf("log holds %v", got)
		}
		if r, _ := p.answer("m10"); !r.ack.Duplicate {
			t.Error("the publish whose answer was cut off is no duplicate")
		}
	})
}

// A broker that got a slot back accepts what follows a publish it refused.
func TestPublishThatWasOvertakenIsNotSentLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		p := startPublisher(t, c, upstream.PublisherConfig{})
		defer p.stop(nil)
		owner, _ := c.owner("/a")
		var seen []string
		owner.set(func() {
			owner.script = func(req *brokerv1.Offer) *brokerv1.Answer {
				seen = append(seen, string(req.GetData()))
				if len(seen) == 1 {
					return &brokerv1.Answer{Refused: channelv1.ErrorReason_ERROR_REASON_MOVED}
				}
				return &brokerv1.Answer{Offset: c.slots[shard.Of("/a")].row.Base + uint64(len(seen))}
			}
			owner.delay = time.Millisecond
		})
		p.publish("/a", "m0")
		p.publish("/a", "m1")
		time.Sleep(3 * time.Second)
		p.committed("m1")
		p.refused("m0", codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE)
		if !slices.Equal(seen, []string{"m0", "m1"}) {
			t.Errorf("the broker saw %v", seen)
		}
	})
}

// The stream broke, so nobody knows whether it was overtaken: order comes first.
func TestPublishThatMayBeOvertakenIsNotSentLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		p := startPublisher(t, c, upstream.PublisherConfig{})
		defer p.stop(nil)
		owner, _ := c.owner("/a")
		var seen []string
		owner.set(func() {
			owner.script = func(req *brokerv1.Offer) *brokerv1.Answer {
				seen = append(seen, string(req.GetData()))
				switch len(seen) {
				case 1:
					return &brokerv1.Answer{Refused: channelv1.ErrorReason_ERROR_REASON_MOVED}
				case 2:
					return nil
				}
				return &brokerv1.Answer{Offset: c.slots[shard.Of("/a")].row.Base + uint64(len(seen))}
			}
		})
		p.publish("/a", "m0")
		p.publish("/a", "m1")
		synctest.Wait()
		owner.cut()
		time.Sleep(3 * time.Second)
		p.committed("m1")
		p.refused("m0", codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE)
		if !slices.Equal(seen, []string{"m0", "m1", "m1"}) {
			t.Errorf("the broker saw %v", seen)
		}
	})
}

// The publisher knows the row of a newer log than the broker that accepts.
func TestPublishIntoALostLogIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		p := startPublisher(t, c, upstream.PublisherConfig{})
		defer p.stop(nil)
		owner, _ := c.owner("/a")
		base := c.slots[shard.Of("/a")].row.Base
		owner.set(func() {
			owner.script = func(*brokerv1.Offer) *brokerv1.Answer {
				base++
				return &brokerv1.Answer{Offset: base - 1}
			}
		})
		p.publish("/a", "m")
		time.Sleep(time.Second)
		p.committed("m")
		if r, _ := p.answer("m"); r.ack.Position != base-1 || r.ack.Position == c.slots[shard.Of("/a")].row.Base {
			t.Errorf("position %d", r.ack.Position)
		}
	})
}

func TestPublishDoesNotWaitForAnOwnerThatWasReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		p := startPublisher(t, c, upstream.PublisherConfig{})
		defer p.stop(nil)
		owner, other := c.owner("/a")
		owner.set(func() { owner.script = func(*brokerv1.Offer) *brokerv1.Answer { return nil } })
		p.publish("/a", "m")
		synctest.Wait()
		c.move(shard.Of("/a"), other, 0, 0)
		time.Sleep(time.Second)
		p.committed("m")
	})
}

func TestPublishIsRefusedByTheBroker(t *testing.T) {
	for reason, code := range map[channelv1.ErrorReason]codes.Code{
		channelv1.ErrorReason_ERROR_REASON_BUSY:              codes.ResourceExhausted,
		channelv1.ErrorReason_ERROR_REASON_KEY_REUSED:        codes.AlreadyExists,
		channelv1.ErrorReason_ERROR_REASON_PUBLISH_DENIED:    codes.PermissionDenied,
		channelv1.ErrorReason_ERROR_REASON_MESSAGE_TOO_LARGE: codes.InvalidArgument,
		channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE:       codes.Unavailable,
	} {
		t.Run(reason.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 1)
				p := startPublisher(t, c, upstream.PublisherConfig{})
				defer p.stop(nil)
				owner, _ := c.owner("/a")
				owner.set(func() {
					owner.script = func(*brokerv1.Offer) *brokerv1.Answer {
						return &brokerv1.Answer{Refused: reason, Detail: "why"}
					}
				})
				p.publish("/a", "m")
				synctest.Wait()
				p.refused("m", code, reason)
			})
		})
	}
}

func TestPublishIsAnsweredWhenRunEnds(t *testing.T) {
	for name, tt := range map[string]struct {
		cause  error
		reason channelv1.ErrorReason
	}{
		"drain": {run.ErrDraining, channelv1.ErrorReason_ERROR_REASON_DRAINING},
		"stop":  {context.Canceled, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 1)
				p := startPublisher(t, c, upstream.PublisherConfig{})
				owner, _ := c.owner("/a")
				owner.set(func() { owner.script = func(*brokerv1.Offer) *brokerv1.Answer { return nil } })
				p.publish("/a", "before")
				synctest.Wait()
				p.stop(tt.cause)
				p.publish("/a", "after")
				p.refused("before", codes.Unavailable, tt.reason)
				p.refused("after", codes.Unavailable, tt.reason)
			})
		})
	}
}

func TestPublishTimesOutAtASilentBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		p := startPublisher(t, c, upstream.PublisherConfig{Timeout: 2 * time.Second})
		defer p.stop(nil)
		owner, _ := c.owner("/a")
		owner.set(func() { owner.delay = 3 * time.Second })
		p.publish("/a", "m")
		time.Sleep(2*time.Second + time.Millisecond)
		p.refused("m", codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE)
		time.Sleep(2 * time.Second)
		p.answer("m") // the late answer is not a second one
	})
}

func TestPublishAllocations(t *testing.T) {
	p := upstream.NewPublisher(upstream.PublisherConfig{MaxCount: 1 << 20, MaxPending: 1 << 30, Logger: quiet})
	m := upstream.Publication{Channel: "/a", Data: []byte("1")}
	answered := func(upstream.Ack, error) {}
	if n := testing.AllocsPerRun(1000, func() { p.Publish(m, answered) }); n > 3 {
		t.Errorf("%v allocations, want 2, the request and its key, and one of the race detector's", n)
	}
}
