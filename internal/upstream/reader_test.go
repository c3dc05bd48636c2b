package upstream_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/internal/upstream"
)

func startReader(t *testing.T, c *cluster) *upstream.Reader {
	t.Helper()
	r := upstream.NewReader(upstream.ReaderConfig{Directory: c.dir, Conns: c.pool})
	ctx, end := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		end()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	return r
}

func TestReadFollowsTheSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		r := startReader(t, c)
		_, other := c.owner("/a")
		moved := make(chan struct{})
		go func() {
			defer close(moved)
			c.move(shard.Of("/a"), other, time.Second, time.Second)
			c.publish("/a", "1")
		}()
		time.Sleep(1500 * time.Millisecond) // nobody serves it at this moment
		resp, err := r.Read(t.Context(), &brokerv1.ReadRequest{Channel: "/a"})
		if err != nil {
			t.Fatal(err)
		}
		<-moved
		if len(resp.GetEntries()) > 1 || resp.GetThrough() < c.slots[shard.Of("/a")].log().base {
			t.Errorf("read %v", resp)
		}
	})
}

func TestReadGivesUpWithAReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 0)
		r := startReader(t, c)
		begin := time.Now()
		_, err := r.Read(t.Context(), &brokerv1.ReadRequest{Channel: "/a"})
		if status.Code(err) != codes.Unavailable || rpc.Reason(err) != channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE {
			t.Errorf("err %v", err)
		}
		if took := time.Since(begin); took != 5*time.Second {
			t.Errorf("gave up after %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Read(ctx, &brokerv1.ReadRequest{Channel: "/a"}); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("with a deadline of its own: %v", err)
		}
	})
}

func TestReadGoesToTheOwnerOfItsSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		r := startReader(t, c)
		var asked []string
		for _, b := range c.brokers() {
			b.set(func() {
				b.reads = func(*brokerv1.ReadRequest) (*brokerv1.ReadResponse, error) {
					asked = append(asked, b.node.Addr)
					return &brokerv1.ReadResponse{Through: 9}, nil
				}
			})
		}
		for slot := range uint32(4) {
			req := &brokerv1.ReadRequest{Slot: &slot, Channels: []string{"/a", "/b/**"}, Limit: 1}
			if _, err := r.Read(t.Context(), req); err != nil {
				t.Fatal(err)
			}
			if want := c.slots[slot].row.Addr; asked[slot] != want {
				t.Errorf("slot %d was read at %s, it is owned by %s", slot, asked[slot], want)
			}
		}
	})
}

func TestReadTakesNothingOlderThanItKnows(t *testing.T) {
	entry := []*brokerv1.Entry{{Offset: 7, Channel: "/a"}}
	for name, tt := range map[string]struct {
		req   *brokerv1.ReadRequest
		first *brokerv1.ReadResponse
		taken bool
	}{
		"fresh":       {&brokerv1.ReadRequest{}, &brokerv1.ReadResponse{Through: 10}, true},
		"stale":       {&brokerv1.ReadRequest{}, &brokerv1.ReadResponse{Through: 9}, false},
		"page":        {&brokerv1.ReadRequest{Limit: 1}, &brokerv1.ReadResponse{Through: 7, Entries: entry}, true},
		"newest page": {&brokerv1.ReadRequest{Limit: 1, Reverse: true}, &brokerv1.ReadResponse{Through: 7, Entries: entry}, false},
		"stale, but for what is lost": {
			&brokerv1.ReadRequest{}, &brokerv1.ReadResponse{Through: 9, LostChannels: []string{"/a"}}, false,
		},
		"lost": {&brokerv1.ReadRequest{}, &brokerv1.ReadResponse{Through: 9, Lost: true}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 1)
				r := startReader(t, c)
				b := c.brokers()[0]
				asked := 0
				b.set(func() {
					b.reads = func(*brokerv1.ReadRequest) (*brokerv1.ReadResponse, error) {
						if asked++; asked == 1 {
							return tt.first, nil
						}
						return &brokerv1.ReadResponse{Through: 11}, nil
					}
				})
				tt.req.Channel = "/a"
				resp, err := r.ReadAtLeast(t.Context(), tt.req, 10)
				if err != nil {
					t.Fatal(err)
				}
				if got := resp.GetThrough() == tt.first.GetThrough(); got != tt.taken {
					t.Errorf("answer %v after %d reads", resp, asked)
				}
			})
		})
	}
}

func TestReadPassesRefusalsOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		r := startReader(t, c)
		b := c.brokers()[0]
		b.set(func() {
			b.reads = func(*brokerv1.ReadRequest) (*brokerv1.ReadResponse, error) {
				return nil, rpc.Error(codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID, "no")
			}
		})
		_, err := r.Read(t.Context(), &brokerv1.ReadRequest{Channel: "/a"})
		if rpc.Reason(err) != channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID {
			t.Errorf("err %v", err)
		}
	})
}
