package edge

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
	"github.com/comet-push/comet/services/edge/internal/session"
)

// text is a snapshot as it can be compared.
func text(snap *session.Snapshot) []string {
	lines := []string{fmt.Sprintf("%q %v %v %q %v %d %q %v %v %v %v", snap.User, snap.Ack, snap.Replay, snap.Transport,
		snap.Since, snap.Batch, snap.ConnectID, snap.Interval, snap.Subscriptions, snap.Seen, snap.Live)}
	for _, i := range snap.Items {
		id, failed := i.Event.Call()
		lines = append(lines, fmt.Sprintf("%d %v %v %s %s %s %v %v %v", i.Batch, i.Event.Notice(), i.Event.At,
			i.Event.JSON(), i.Event.Replay(), i.Event.Message(), id, failed, i.Event.Appended()))
	}
	return lines
}

func anySnapshot(t *rapid.T) *session.Snapshot {
	channels := []string{"/a", "/a/b", "/b", "/c/d/e"}
	number := rapid.Uint64Range(0, shard.MaxPosition-1)
	when := time.UnixMilli(rapid.Int64Range(1, 1<<42).Draw(t, "when")).UTC()
	snap := &session.Snapshot{
		User: rapid.StringMatching("[a-z]{0,3}").Draw(t, "user"), Ack: rapid.Bool().Draw(t, "ack"), Replay: rapid.Bool().Draw(t, "replay"),
		Transport: rapid.SampledFrom([]string{"", "long-polling", "websocket"}).Draw(t, "transport"), Since: when,
		Batch: rapid.Uint32().Draw(t, "batch"), ConnectID: rapid.SampledFrom([]string{"", `"1"`, "2"}).Draw(t, "id"),
		Interval: time.Duration(rapid.IntRange(0, 5000).Draw(t, "interval")) * time.Millisecond, Live: rapid.Bool().Draw(t, "live"),
	}
	for _, channel := range append(channels, "/a/*", "/**") {
		sub := session.Subscription{Channel: channel, Start: number.Draw(t, "start"), Reads: rapid.Bool().Draw(t, "reads")}
		if sub.Reads {
			sub.Cursor = number.Draw(t, "cursor")
		}
		snap.Subscriptions = append(snap.Subscriptions, sub)
	}
	for _, slot := range slices.Sorted(slices.Values(rapid.SliceOfDistinct(rapid.Uint32Range(0, shard.Slots-1), rapid.ID[uint32]).Draw(t, "slots"))) {
		snap.Seen = append(snap.Seen, shard.Position{Slot: shard.Slot(slot), Offset: number.Draw(t, "seen")})
	}
	for range rapid.IntRange(0, 5).Draw(t, "items") {
		i := session.Item{Batch: rapid.Uint32().Draw(t, "sent")}
		channel := rapid.SampledFrom(channels).Draw(t, "channel")
		ext := rapid.SampledFrom([][]byte{nil, []byte(`{"x":1}`)}).Draw(t, "ext")
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 0:
			i.Event = event.NewNotice(rapid.SampledFrom([]string{"/a", "/a/*"}).Draw(t, "lost"))
		case 1:
			i.Event = event.NewMessage(channel, []byte(`{"n":1}`), ext,
				rapid.SampledFrom([]string{"", "7", `"`}).Draw(t, "answers"), rapid.Bool().Draw(t, "failed"))
		default:
			at := shard.Position{Slot: shard.Of(channel), Offset: 1 + number.Draw(t, "offset")}
			members := rapid.SampledFrom([][]byte{nil, []byte(`"y":2`)}).Draw(t, "members")
			i.Event = event.New(channel, at, []byte("1"), ext, members, time.UnixMilli(rapid.Int64Range(1, 1<<42).Draw(t, "time")))
		}
		snap.Items = append(snap.Items, i)
	}
	return snap
}

// What is read from a snapshot is what was written.
func TestSnapshotRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		snap := anySnapshot(t)
		raw, err := proto.Marshal(encodeSnapshot(snap))
		if err != nil {
			t.Fatal(err)
		}
		var m edgev1.SessionSnapshot
		if err := proto.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		got, err := decodeSnapshot(&m)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(text(snap), text(got)); diff != "" {
			t.Fatal(diff)
		}
	})
}

// A record has what its state does not say in its resume.
func TestRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		snap := anySnapshot(t)
		resume, err := encodeResume(snap)
		if err != nil {
			t.Fatal(err)
		}
		state := &edgev1.SessionState{Resume: resume, User: snap.User, Transport: snap.Transport, Since: encodeSnapshot(snap).GetSince()}
		for _, sub := range snap.Subscriptions {
			state.Channels = append(state.Channels, sub.Channel)
		}
		got, err := decodeRecord(state)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(text(snap), text(got)); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestSnapshotRefused(t *testing.T) {
	for name, m := range map[string]*edgev1.SessionSnapshot{
		"channel":  {Subscriptions: []*edgev1.Subscription{{Channel: "a"}}},
		"meta":     {Subscriptions: []*edgev1.Subscription{{Channel: "/meta/connect"}}},
		"slot":     {Seen: []*edgev1.SlotPosition{{Slot: shard.Slots}}},
		"no item":  {Items: []*edgev1.SnapshotItem{{}}},
		"pattern":  {Items: []*edgev1.SnapshotItem{{Message: &edgev1.DeliverRequest{Channel: "/a/*"}}}},
		"no entry": {Items: []*edgev1.SnapshotItem{{Batch: 1, Lost: ""}}},
	} {
		if _, err := decodeSnapshot(m); !errors.Is(err, errSnapshot) {
			t.Errorf("%s: got %v, want errSnapshot", name, err)
		}
	}
	if _, err := decodeRecord(&edgev1.SessionState{Resume: []byte{0xff}}); !errors.Is(err, errSnapshot) {
		t.Errorf("got %v, want errSnapshot", err)
	}
}

// Nearly all of a million records are those of idle sessions.
func TestResumeIsSmall(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		b := w.client().open("/app/orders", "/app/users/12345")
		held := b.poll(w.t.Context())
		w.broker.publish("/app/orders", "1")
		held.events(t)
		held = b.poll(w.t.Context())
		c := w.service.registry.find(b.clientID)
		vector := make([]uint64, shard.Slots)
		for slot := range shard.Slot(shard.Slots) {
			vector[slot] = w.service.hub.Handed(slot)
		}
		c.mu.Lock()
		snap := c.session.Resume(vector, nil)
		c.mu.Unlock()
		resume, err := encodeResume(snap)
		if err != nil {
			t.Fatal(err)
		}
		whole, most := proto.Size(encodeSnapshot(snap)), 60
		t.Logf("the resume of an idle session with 2 channels has %d bytes, %d with their names", len(resume), whole)
		if whole > most {
			t.Errorf("%d bytes, want at most %d", whole, most)
		}
		c.end(session.Evicted)
		<-held.done
	})
}
