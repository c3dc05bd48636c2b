package broker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/internal/namespace"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
)

func TestBadInput(t *testing.T) {
	many := make([]string, 65)
	for i := range many {
		many[i] = fmt.Sprintf("/a/%d", i)
	}
	publish := func(channel, data string) func(context.Context, pubsubv1.PubSubServiceClient) error {
		return func(ctx context.Context, c pubsubv1.PubSubServiceClient) error {
			_, err := c.Publish(ctx, &pubsubv1.PublishRequest{Channel: channel, Data: []byte(data)})
			return err
		}
	}
	subscribe := func(since string, channels ...string) func(context.Context, pubsubv1.PubSubServiceClient) error {
		return func(ctx context.Context, c pubsubv1.PubSubServiceClient) error {
			s, err := c.Subscribe(ctx, &pubsubv1.SubscribeRequest{Channels: channels, Since: since})
			if err == nil {
				_, err = s.Recv()
			}
			return err
		}
	}
	history := func(r *pubsubv1.HistoryRequest) func(context.Context, pubsubv1.PubSubServiceClient) error {
		return func(ctx context.Context, c pubsubv1.PubSubServiceClient) error {
			_, err := c.History(ctx, r)
			return err
		}
	}
	list := func(r *pubsubv1.ListChannelsRequest) func(context.Context, pubsubv1.PubSubServiceClient) error {
		return func(ctx context.Context, c pubsubv1.PubSubServiceClient) error {
			_, err := c.ListChannels(ctx, r)
			return err
		}
	}
	deliver := func(r *pubsubv1.DeliverRequest) func(context.Context, pubsubv1.PubSubServiceClient) error {
		return func(ctx context.Context, c pubsubv1.PubSubServiceClient) error {
			_, err := c.Deliver(ctx, r)
			return err
		}
	}
	// enlist subscribes and unsubscribes sessions.
	enlist := func(session, user string, channels ...string) func(context.Context, pubsubv1.PubSubServiceClient) error {
		return func(ctx context.Context, c pubsubv1.PubSubServiceClient) error {
			_, err := c.SubscribeSession(ctx, &pubsubv1.SubscribeSessionRequest{Session: session, User: user, Channels: channels})
			_, err2 := c.UnsubscribeSession(ctx, &pubsubv1.UnsubscribeSessionRequest{Session: session, User: user, Channels: channels})
			if rpc.Reason(err2) != rpc.Reason(err) && !slices.Contains(channels, "/**") {
				return fmt.Errorf("subscribe: %w, unsubscribe: %w", err, err2)
			}
			return err
		}
	}
	one := []byte("1")
	const (
		channelInvalid   = channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID
		dataInvalid      = channelv1.ErrorReason_ERROR_REASON_DATA_INVALID
		tooLarge         = channelv1.ErrorReason_ERROR_REASON_MESSAGE_TOO_LARGE
		parameterInvalid = channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID
		cursorInvalid    = channelv1.ErrorReason_ERROR_REASON_CURSOR_INVALID
	)
	tests := []struct {
		name   string
		call   func(context.Context, pubsubv1.PubSubServiceClient) error
		reason channelv1.ErrorReason
	}{
		{"publish to nothing", publish("", "1"), channelInvalid},
		{"publish without slash", publish("a", "1"), channelInvalid},
		{"publish to a double slash", publish("/a//b", "1"), channelInvalid},
		{"publish to a pattern", publish("/a/*", "1"), channelInvalid},
		{"publish to meta", publish("/meta/connect", "1"), channelInvalid},
		{"publish to what is private", publish("/@presence/events/0", "1"), channelInvalid},
		{"publish to service", publish("/service/echo", "1"), channelInvalid},
		{"publish to a long channel", publish("/"+strings.Repeat("a", 256), "1"), channelInvalid},
		{"publish to 33 segments", publish(strings.Repeat("/a", 33), "1"), channelInvalid},
		{"publish no data", publish("/a", ""), dataInvalid},
		{"publish half a value", publish("/a", `{"a":`), dataInvalid},
		{"publish two values", publish("/a", "1 2"), dataInvalid},
		{"publish bad UTF-8", publish("/a", "\"\xff\""), dataInvalid},
		{"publish deep nesting", publish("/a", strings.Repeat("[", 65)+strings.Repeat("]", 65)), dataInvalid},
		{"publish too much", publish("/a", `"`+strings.Repeat("a", 512<<10)+`"`), tooLarge},
		{"publish too much for its namespace", publish("/small/a", `"`+strings.Repeat("a", 100)+`"`), tooLarge},
		{"publish where nobody may", publish("/closed/a", "1"), channelv1.ErrorReason_ERROR_REASON_PUBLISH_DENIED},
		{"publish a roster", publish("/presence/a", "1"), channelv1.ErrorReason_ERROR_REASON_PUBLISH_DENIED},
		{"subscribe to a roster", subscribe("", "/presence/a"), channelv1.ErrorReason_ERROR_REASON_SUBSCRIBE_DENIED},
		{"subscribe to rosters", subscribe("", "/presence/**"), channelv1.ErrorReason_ERROR_REASON_SUBSCRIBE_DENIED},
		{"history of a roster", history(&pubsubv1.HistoryRequest{Channel: "/presence/a"}), channelv1.ErrorReason_ERROR_REASON_SUBSCRIBE_DENIED},
		{
			"deliver a roster", deliver(&pubsubv1.DeliverRequest{Session: "00000000-x", Channel: "/presence/a", Data: one}),
			channelv1.ErrorReason_ERROR_REASON_PUBLISH_DENIED,
		},
		{"publish ext that is no object", func(ctx context.Context, c pubsubv1.PubSubServiceClient) error {
			_, err := c.Publish(ctx, &pubsubv1.PublishRequest{Channel: "/a", Data: one, Ext: []byte("[]")})
			return err
		}, dataInvalid},
		{"publish with a long key", func(ctx context.Context, c pubsubv1.PubSubServiceClient) error {
			_, err := c.Publish(ctx, &pubsubv1.PublishRequest{Channel: "/a", Data: one, IdempotencyKey: strings.Repeat("k", 129)})
			return err
		}, parameterInvalid},
		{"subscribe to nothing", subscribe(""), channelInvalid},
		{"subscribe to 65 channels", subscribe("", many...), channelv1.ErrorReason_ERROR_REASON_TOO_MANY_CHANNELS},
		{"subscribe to meta", subscribe("", "/meta/**"), channelInvalid},
		{"subscribe to what is private", subscribe("", "/@presence/**"), channelInvalid},
		{"read what is private", history(&pubsubv1.HistoryRequest{Channel: "/@presence/events/0"}), channelInvalid},
		{"subscribe to everything", subscribe("", "/**"), channelInvalid},
		{"subscribe to a star inside", subscribe("", "/a/*/b"), channelInvalid},
		{"subscribe where nobody may", subscribe("", "/closed/a"), channelv1.ErrorReason_ERROR_REASON_SUBSCRIBE_DENIED},
		{"subscribe to a pattern where nobody may", subscribe("", "/closed/**"), channelv1.ErrorReason_ERROR_REASON_SUBSCRIBE_DENIED},
		{"subscribe since a word", subscribe("yesterday", "/a"), cursorInvalid},
		{"subscribe since other channels", subscribe(shard.FormatCursor([]string{"/a", "/b"}, nil), "/a", "/c"), cursorInvalid},
		{"subscribe since a position of a pattern", subscribe("7", "/a/**"), cursorInvalid},
		{"history of a pattern", history(&pubsubv1.HistoryRequest{Channel: "/a/*"}), channelInvalid},
		{"history since latest", history(&pubsubv1.HistoryRequest{Channel: "/a", Since: "latest"}), cursorInvalid},
		{"history of too many", history(&pubsubv1.HistoryRequest{Channel: "/a", Limit: 1001}), parameterInvalid},
		{"history that is lost", history(&pubsubv1.HistoryRequest{Channel: "/a", Since: "0"}), channelv1.ErrorReason_ERROR_REASON_HISTORY_LOST},
		{"history of the future", history(&pubsubv1.HistoryRequest{Channel: "/a", Since: "9999999999999999"}), channelv1.ErrorReason_ERROR_REASON_HISTORY_LOST},
		{"history where nobody may", history(&pubsubv1.HistoryRequest{Channel: "/closed/a"}), channelv1.ErrorReason_ERROR_REASON_SUBSCRIBE_DENIED},
		{"list a bad pattern", list(&pubsubv1.ListChannelsRequest{Pattern: "a"}), channelInvalid},
		{"list too many", list(&pubsubv1.ListChannelsRequest{PageSize: 1001}), parameterInvalid},
		{"list a bad page", list(&pubsubv1.ListChannelsRequest{PageToken: "!"}), parameterInvalid},
		{"deliver to nobody", deliver(&pubsubv1.DeliverRequest{Channel: "/a", Data: one}), parameterInvalid},
		{"deliver to a stranger", deliver(&pubsubv1.DeliverRequest{Session: "00000000-x", Channel: "/a", Data: one}), channelv1.ErrorReason_ERROR_REASON_SESSION_UNKNOWN},
		{"disconnect nobody", func(ctx context.Context, c pubsubv1.PubSubServiceClient) error {
			_, err := c.Disconnect(ctx, &pubsubv1.DisconnectRequest{})
			return err
		}, parameterInvalid},
		{"disconnect a stranger", func(ctx context.Context, c pubsubv1.PubSubServiceClient) error {
			_, err := c.Disconnect(ctx, &pubsubv1.DisconnectRequest{Session: "00000000-x"})
			return err
		}, channelv1.ErrorReason_ERROR_REASON_SESSION_UNKNOWN},
		{"disconnect both", func(ctx context.Context, c pubsubv1.PubSubServiceClient) error {
			_, err := c.Disconnect(ctx, &pubsubv1.DisconnectRequest{Session: "00000000-x", User: "ann"})
			return err
		}, parameterInvalid},
		{"disconnect a long name", func(ctx context.Context, c pubsubv1.PubSubServiceClient) error {
			_, err := c.Disconnect(ctx, &pubsubv1.DisconnectRequest{User: strings.Repeat("x", 257)})
			return err
		}, parameterInvalid},
		{"disconnect a user without presence", func(ctx context.Context, c pubsubv1.PubSubServiceClient) error {
			_, err := c.Disconnect(ctx, &pubsubv1.DisconnectRequest{User: "ann"})
			return err
		}, channelv1.ErrorReason_ERROR_REASON_NOT_READY},
		{"subscribe nobody", enlist("", "", "/a"), parameterInvalid},
		{"subscribe a stranger", enlist("00000000-x", "", "/a"), channelv1.ErrorReason_ERROR_REASON_SESSION_UNKNOWN},
		{"subscribe to nothing", enlist("00000000-x", ""), channelInvalid},
		{"subscribe to everything", enlist("00000000-x", "", "/**"), channelInvalid},
		{"subscribe to a service channel", enlist("00000000-x", "", "/service/a"), channelInvalid},
		{"subscribe to meta", enlist("00000000-x", "", "/a", "/meta/x"), channelInvalid},
		{"subscribe to too much", enlist("00000000-x", "", many...), channelv1.ErrorReason_ERROR_REASON_TOO_MANY_CHANNELS},
		{"deliver a pattern", deliver(&pubsubv1.DeliverRequest{Session: "00000000-x", Channel: "/*", Data: one}), channelInvalid},
		{"deliver no data", deliver(&pubsubv1.DeliverRequest{Session: "00000000-x", Channel: "/a"}), dataInvalid},
	}
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.config.AnyPattern = false
		c.namespaces = []namespace.Options{
			{Pattern: "/closed/**"},
			{Pattern: "/small/**", Publish: namespace.Backends, MaxMessageBytes: 100},
		}
		a := c.start("a")
		for _, tt := range tests {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			err := tt.call(ctx, a.pubsub)
			cancel()
			if got := rpc.Reason(err); got != tt.reason {
				t.Errorf("%s: %v with reason %v, want %v", tt.name, err, got, tt.reason)
			}
			if len(status.Convert(err).Message()) < 15 {
				t.Errorf("%s: message %q helps nobody", tt.name, status.Convert(err).Message())
			}
		}
	})
}

func TestPublishStreamRefusesOneAndGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newCluster(t).start("a")
		stream, err := a.pubsub.PublishStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for id, channel := range []string{"/a", "/meta/x", "/a"} {
			if err := stream.Send(&pubsubv1.PublishStreamRequest{
				RequestId: uint64(id), Message: &pubsubv1.PublishRequest{Channel: channel, Data: []byte("1")},
			}); err != nil {
				t.Fatal(err)
			}
		}
		if err := stream.Send(&pubsubv1.PublishStreamRequest{RequestId: 3}); err != nil {
			t.Fatal(err)
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		got := map[uint64]channelv1.ErrorReason{}
		for range 4 {
			r, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			got[r.GetRequestId()] = r.GetRefused().GetReason()
		}
		invalid := channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID
		if diff := cmp.Diff(map[uint64]channelv1.ErrorReason{0: 0, 1: invalid, 2: 0, 3: invalid}, got); diff != "" {
			t.Error(diff)
		}
	})
}

// TestPublishStreamTakesBatches also sends more at once than may be in flight.
func TestPublishStreamTakesBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.config.MaxInFlight = 3
		a := c.start("a")
		stream, err := a.pubsub.PublishStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var batch []*pubsubv1.PublishStreamRequest
		for id := range uint64(10) {
			batch = append(batch, &pubsubv1.PublishStreamRequest{
				RequestId: id, Message: &pubsubv1.PublishRequest{Channel: "/a", Data: []byte("1")},
			})
		}
		nested := &pubsubv1.PublishStreamRequest{RequestId: 10, Batch: batch[:1]}
		for _, all := range [][]*pubsubv1.PublishStreamRequest{append(batch, nested), batch[:1]} {
			if err := stream.Send(&pubsubv1.PublishStreamRequest{Batch: all}); err != nil {
				t.Fatal(err)
			}
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		var got []*pubsubv1.PublishStreamResponse
		together := false
		for {
			r, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			together = together || len(r.GetBatch()) > 1
			if got = append(got, r.GetBatch()...); len(r.GetBatch()) == 0 {
				got = append(got, r)
			}
		}
		if len(got) != 12 || !together {
			t.Fatalf("%d answers, some of them together: %v", len(got), together)
		}
		last := uint64(0)
		for _, r := range got {
			if refused := r.GetRequestId() == 10; refused != (r.GetRefused() != nil) {
				t.Errorf("%d: %v", r.GetRequestId(), r)
			} else if at := r.GetPublished().GetPosition(); !refused && at <= last {
				t.Errorf("%d is at %d after %d", r.GetRequestId(), at, last)
			} else if !refused {
				last = at
			}
		}
	})
}

func TestIdempotencyKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newCluster(t).start("a")
		publish := func(channel, data, key string) (*pubsubv1.PublishResponse, error) {
			return a.pubsub.Publish(t.Context(), &pubsubv1.PublishRequest{Channel: channel, Data: []byte(data), IdempotencyKey: key})
		}
		first, err := publish("/a", "1", "k")
		if err != nil || first.GetDuplicate() {
			t.Fatalf("first: %v, %v", first, err)
		}
		again, err := publish("/a", "1", "k")
		if err != nil || !again.GetDuplicate() || again.GetPosition() != first.GetPosition() {
			t.Errorf("again: %v, %v, want a duplicate of %v", again, err, first)
		}
		if other, err := publish("/b", "1", "k"); err != nil || other.GetDuplicate() {
			t.Errorf("other channel: %v, %v", other, err)
		}
		_, err = publish("/a", "2", "k")
		if rpc.Reason(err) != channelv1.ErrorReason_ERROR_REASON_KEY_REUSED || status.Code(err) != codes.AlreadyExists {
			t.Errorf("other bytes: %v", err)
		}
		time.Sleep(5*time.Minute + time.Second)
		if late, err := publish("/a", "1", "k"); err != nil || late.GetDuplicate() {
			t.Errorf("after the window: %v, %v", late, err)
		}
	})
}

func TestHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		a, b := c.start("a"), c.start("b")
		c.settled(a, b)
		var positions []uint64
		for i := range 5 {
			positions = append(positions, a.publish("/h", fmt.Sprintf(`{"z":%d,"a":12345678901234567890}`, i)))
		}
		read := func(r *pubsubv1.HistoryRequest) *pubsubv1.HistoryResponse {
			t.Helper()
			r.Channel = "/h"
			resp, err := b.pubsub.History(t.Context(), r)
			if err != nil {
				t.Fatalf("%v: %v", r, err)
			}
			return resp
		}
		all := read(&pubsubv1.HistoryRequest{})
		if string(all.GetMessages()[4].GetData()) != `{"z":4,"a":12345678901234567890}` || all.GetMessages()[0].GetTime() == nil {
			t.Errorf("got %v", all)
		}
		at := func(r *pubsubv1.HistoryRequest) (at []uint64) {
			t.Helper()
			for _, m := range read(r).GetMessages() {
				at = append(at, m.GetPosition())
			}
			return at
		}
		page := read(&pubsubv1.HistoryRequest{Limit: 2})
		for name, tt := range map[string]struct {
			req  *pubsubv1.HistoryRequest
			want []uint64
		}{
			"all":       {&pubsubv1.HistoryRequest{}, positions},
			"earliest":  {&pubsubv1.HistoryRequest{Since: "earliest"}, positions},
			"since":     {&pubsubv1.HistoryRequest{Since: fmt.Sprint(positions[1])}, positions[2:]},
			"limit":     {&pubsubv1.HistoryRequest{Limit: 2}, positions[:2]},
			"next page": {&pubsubv1.HistoryRequest{Since: page.GetCursor()}, positions[2:]},
			"reverse":   {&pubsubv1.HistoryRequest{Reverse: true, Limit: 2}, []uint64{positions[4], positions[3]}},
			"reverse since": {
				&pubsubv1.HistoryRequest{Reverse: true, Since: fmt.Sprint(positions[2])},
				[]uint64{positions[4], positions[3]},
			},
			"to the end": {&pubsubv1.HistoryRequest{Since: all.GetCursor()}, nil},
		} {
			if diff := cmp.Diff(tt.want, at(tt.req)); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
		a.publish("/h", "5")
		s := b.subscribe(all.GetCursor(), "/h")
		s.want("5")
	})
}

func TestListChannels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		a, b := c.start("a"), c.start("b")
		c.settled(a, b)
		var want []*pubsubv1.ChannelInfo
		for i := range 25 {
			name := fmt.Sprintf("/list/%02d", i)
			a.publish(name, "1")
			want = append(want, &pubsubv1.ChannelInfo{Channel: name, Position: a.publish(name, "2"), Messages: 2})
		}
		a.publish("/other", "1")
		b.subscribe("", "/list/03")
		want[3].Subscribers = 1
		var got []*pubsubv1.ChannelInfo
		token := ""
		for page := 0; page == 0 || token != ""; page++ {
			resp, err := b.pubsub.ListChannels(t.Context(), &pubsubv1.ListChannelsRequest{
				Pattern: "/list/*", PageSize: 10, PageToken: token,
			})
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, resp.GetChannels()...)
			token = resp.GetNextPageToken()
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
		all, err := a.pubsub.ListChannels(t.Context(), &pubsubv1.ListChannelsRequest{})
		if err != nil || len(all.GetChannels()) != 26 || all.GetNextPageToken() != "" {
			t.Errorf("got %d channels, %v", len(all.GetChannels()), err)
		}
	})
}
