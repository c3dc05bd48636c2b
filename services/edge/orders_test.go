package edge

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/services/edge/internal/session"
)

// subscribeFor subscribes a session as a backend does.
func (w *world) subscribeFor(clientID string, channels ...string) error {
	_, err := (&deliverServer{s: w.service}).SubscribeSession(w.t.Context(),
		&edgev1.SubscribeSessionRequest{Session: publicID(clientID), Channels: channels})
	return err
}

func (w *world) unsubscribeFor(clientID string, channels ...string) error {
	_, err := (&deliverServer{s: w.service}).UnsubscribeSession(w.t.Context(),
		&edgev1.UnsubscribeSessionRequest{Session: publicID(clientID), Channels: channels})
	return err
}

func (w *world) channelsOf(clientID string) []string {
	c := w.service.registry.find(clientID)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session.Channels()
}

// TestSubscribeFor subscribes clients that asked for nothing: what is published
// once the call has returned reaches them, until they are unsubscribed.
func TestSubscribeFor(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		c := w.client().open()
		k := w.socket().open()
		k.hold()
		poll := c.poll(w.t.Context())
		for _, id := range []string{c.clientID, k.clientID} {
			for range 2 { // it may be repeated
				if err := w.subscribeFor(id, "/a", "/b/*"); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.broker.publish("/a", "1")
		if got := summary(poll.events(t)); got != "/a=1" {
			t.Errorf("the client was told %s", got)
		}
		w.broker.publish("/b/x", "2")
		if events, _ := c.connect(); summary(events) != "/b/x=2" {
			t.Errorf("then %s", summary(events))
		}
		if got := len(k.take()); got != 2 {
			t.Errorf("the socket got %d frames, want 2", got)
		}
		c.want(c.send(message{"channel": "/meta/unsubscribe", "subscription": "/b/*"})) // its own will counts
		if err := w.unsubscribeFor(c.clientID, "/a", "/never"); err != nil {
			t.Fatal(err)
		}
		if got := w.channelsOf(c.clientID); len(got) != 0 {
			t.Errorf("it is still subscribed to %v", got)
		}
		w.broker.publish("/a", "3")
		synctest.Wait()
		c.want(c.send(message{"channel": "/meta/subscribe", "subscription": "/a"}))
		w.broker.publish("/a", "4")
		synctest.Wait()
		if events, _ := c.connect(); summary(events) != "/a=4" {
			t.Errorf("after its own subscribe: %s", summary(events))
		}
	})
}

// TestSubscribeForRefuses names what is wrong.
func TestSubscribeForRefuses(t *testing.T) {
	inWorld(t, Config{Subscriptions: 2, Requests: 3}, func(w *world) {
		c := w.client().open("/own")
		gone := w.client().open()
		w.disconnect(gone.clientID)
		for _, tt := range []struct {
			name     string
			client   string
			channels []string
			code     codes.Code
			reason   channelv1.ErrorReason
		}{
			{"nobody", strings.Repeat("x", 64), []string{"/a"}, codes.NotFound, channelv1.ErrorReason_ERROR_REASON_SESSION_UNKNOWN},
			{"one that ended", gone.clientID, []string{"/a"}, codes.FailedPrecondition, channelv1.ErrorReason_ERROR_REASON_SESSION_UNKNOWN},
			{"no channel", c.clientID, []string{"a"}, codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID},
			{"meta", c.clientID, []string{"/a", "/meta/x"}, codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID},
			{"service", c.clientID, []string{"/service/x"}, codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID},
			{"too many", c.clientID, []string{"/a", "/b"}, codes.ResourceExhausted, channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED},
		} {
			err := w.subscribeFor(tt.client, tt.channels...)
			if status.Code(err) != tt.code || rpc.Reason(err) != tt.reason {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
		w.broker.set(true)
		began := time.Now()
		errs := make(chan error, 4)
		for range 4 {
			go func() { errs <- w.subscribeFor(c.clientID, "/down") }()
		}
		if err := <-errs; rpc.Reason(err) != channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED || time.Since(began) > 0 {
			t.Errorf("one too many is refused after %v: %v", time.Since(began), err)
		}
		for range 3 {
			if err := <-errs; rpc.Reason(err) != channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE {
				t.Errorf("without a broker: %v", err)
			}
		}
		if took := time.Since(began); took > w.service.cfg.JoinTimeout+2*time.Second {
			t.Errorf("it took %v", took)
		}
		if got := w.channelsOf(c.clientID); !slices.Equal(got, []string{"/own"}) {
			t.Errorf("it is subscribed to %v", got)
		}
	})
}

// TestSubscribeForEnds ends a session, and then a call, while a broker is awaited.
func TestSubscribeForEnds(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		w.broker.set(true)
		for _, tt := range []struct {
			reason session.Reason
			code   codes.Code
		}{{session.Evicted, codes.FailedPrecondition}, {session.Moved, codes.NotFound}} {
			c := w.client().open()
			done := make(chan error, 1)
			go func() { done <- w.subscribeFor(c.clientID, "/a") }()
			synctest.Wait()
			if here := w.service.registry.find(c.clientID); tt.reason == session.Moved {
				here.deposit()
			} else {
				here.end(tt.reason)
			}
			if err := <-done; status.Code(err) != tt.code {
				t.Errorf("%s: %v", tt.reason, err)
			}
		}
		c := w.client().open()
		ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
		defer cancel()
		_, err := (&deliverServer{s: w.service}).SubscribeSession(ctx,
			&edgev1.SubscribeSessionRequest{Session: publicID(c.clientID), Channels: []string{"/a"}})
		if status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("the call ended with %v", err)
		}
		time.Sleep(w.service.cfg.JoinTimeout + 2*time.Second)
		synctest.Wait()
		if n := len(w.service.orders.by); n != 0 {
			t.Errorf("%d sessions have orders under way", n)
		}
	})
}
