package edge

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/comet-push/comet/bayeux"
	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
	"github.com/comet-push/comet/services/edge/internal/session"
)

// errSnapshot is returned for a snapshot that no session can be made of.
var errSnapshot = errors.New("the snapshot of a session is not well formed")

// encodeSnapshot writes a snapshot down. What it has is shared.
func encodeSnapshot(snap *session.Snapshot) *edgev1.SessionSnapshot {
	m := &edgev1.SessionSnapshot{
		User: snap.User, Ack: snap.Ack, Replay: snap.Replay, Transport: snap.Transport,
		Batch: snap.Batch, ConnectId: snap.ConnectID, Live: snap.Live,
		IntervalMs: uint32(min(snap.Interval.Milliseconds(), math.MaxUint32)),
	}
	if !snap.Since.IsZero() {
		m.Since = timestamppb.New(snap.Since)
	}
	for _, sub := range snap.Subscriptions {
		one := &edgev1.Subscription{Channel: sub.Channel, Start: sub.Start}
		if sub.Reads {
			one.Cursor = &sub.Cursor
		}
		m.Subscriptions = append(m.Subscriptions, one)
	}
	for _, p := range snap.Seen {
		m.Seen = append(m.Seen, &edgev1.SlotPosition{Slot: uint32(p.Slot), Offset: p.Offset})
	}
	for _, i := range snap.Items {
		m.Items = append(m.Items, encodeItem(i))
	}
	for _, sent := range snap.Sent {
		one := &edgev1.SentBatch{Batch: sent.Batch}
		for _, p := range sent.Through {
			one.Through = append(one.Through, &edgev1.SlotPosition{Slot: uint32(p.Slot), Offset: p.Offset})
		}
		for _, p := range sent.Read {
			one.Read = append(one.Read, &edgev1.ChannelPosition{Channel: p.Channel, Offset: p.Offset})
		}
		m.Sent = append(m.Sent, one)
	}
	return m
}

func encodeItem(i session.Item) *edgev1.SnapshotItem {
	m, e := &edgev1.SnapshotItem{Batch: i.Batch}, i.Event
	data, ext, members := e.Parts()
	switch {
	case e.Notice():
		m.Lost = e.Channel
	case e.At.Offset == 0:
		id, failed := e.Call()
		m.Message = &edgev1.DeliverRequest{Channel: e.Channel, Data: data, Ext: ext, Id: id, Failed: failed}
	default:
		m.Entry = &brokerv1.Entry{Offset: e.At.Offset, Channel: e.Channel, Data: data, Ext: ext, Members: members}
		if appended := e.Appended(); !appended.IsZero() {
			m.Entry.TimeMs = appended.UnixMilli()
		}
	}
	return m
}

// decodeSnapshot reads what encodeSnapshot wrote. Errors wrap errSnapshot.
func decodeSnapshot(m *edgev1.SessionSnapshot) (*session.Snapshot, error) {
	snap := &session.Snapshot{
		User: m.GetUser(), Ack: m.GetAck(), Replay: m.GetReplay(), Transport: m.GetTransport(),
		Batch: m.GetBatch(), ConnectID: m.GetConnectId(), Live: m.GetLive(),
		Interval: time.Duration(m.GetIntervalMs()) * time.Millisecond,
	}
	if m.GetSince() != nil {
		snap.Since = m.GetSince().AsTime()
	}
	for _, sub := range m.GetSubscriptions() {
		if !bayeux.ValidChannel(sub.GetChannel()) || bayeux.IsMeta(sub.GetChannel()) {
			return nil, fmt.Errorf("%w: it subscribes to %q", errSnapshot, sub.GetChannel())
		}
		snap.Subscriptions = append(snap.Subscriptions, session.Subscription{
			Channel: sub.GetChannel(), Start: sub.GetStart(), Reads: sub.Cursor != nil, Cursor: sub.GetCursor(),
		})
	}
	for _, p := range m.GetSeen() {
		if p.GetSlot() >= shard.Slots {
			return nil, fmt.Errorf("%w: it has a slot %d", errSnapshot, p.GetSlot())
		}
		snap.Seen = append(snap.Seen, shard.Position{Slot: shard.Slot(p.GetSlot()), Offset: p.GetOffset()})
	}
	slices.SortFunc(snap.Seen, func(a, b shard.Position) int { return int(a.Slot) - int(b.Slot) })
	for _, i := range m.GetItems() {
		e := decodeItem(i)
		if !bayeux.ValidLiteral(e.Channel) && !e.Notice() {
			return nil, fmt.Errorf("%w: an item is of %q", errSnapshot, e.Channel)
		}
		snap.Items = append(snap.Items, session.Item{Batch: i.GetBatch(), Event: e})
	}
	return snap, decodeSent(m.GetSent(), snap)
}

// decodeSent reads what of a snapshot is of unacknowledged answers.
func decodeSent(sent []*edgev1.SentBatch, snap *session.Snapshot) error {
	for _, m := range sent {
		one := session.Sent{Batch: m.GetBatch()}
		for _, p := range m.GetThrough() {
			if p.GetSlot() >= shard.Slots {
				return fmt.Errorf("%w: it was sent something of slot %d", errSnapshot, p.GetSlot())
			}
			one.Through = append(one.Through, shard.Position{Slot: shard.Slot(p.GetSlot()), Offset: p.GetOffset()})
		}
		for _, p := range m.GetRead() {
			one.Read = append(one.Read, session.Place{Channel: p.GetChannel(), Offset: p.GetOffset()})
		}
		snap.Sent = append(snap.Sent, one)
	}
	return nil
}

func decodeItem(i *edgev1.SnapshotItem) *event.Event {
	switch m := i.GetMessage(); {
	case i.GetLost() != "":
		return event.NewNotice(i.GetLost())
	case m != nil:
		return event.NewMessage(m.GetChannel(), m.GetData(), m.GetExt(), m.GetId(), m.GetFailed())
	}
	return newEvent(shard.Of(i.GetEntry().GetChannel()), i.GetEntry())
}

// mostResume is the longest resume of a record.
const mostResume = 64 << 10

// encodeResume is the resume of a session's record. What the record has besides
// is left out: subscriptions of which nothing is to be said. Errors wrap
// errSnapshot: only a session that reads the history of a great many channels at
// a time needs more than there may be.
func encodeResume(snap *session.Snapshot) ([]byte, error) {
	m := encodeSnapshot(snap)
	m.Subscriptions = slices.DeleteFunc(m.Subscriptions, func(sub *edgev1.Subscription) bool {
		return sub.GetStart() == 0 && sub.Cursor == nil
	})
	raw, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSnapshot, err)
	}
	if len(raw) > mostResume {
		return nil, fmt.Errorf("%w: it has %d bytes, %d at most", errSnapshot, len(raw), mostResume)
	}
	return raw, nil
}

// decodeRecord is the snapshot that a record holds. Errors wrap errSnapshot.
func decodeRecord(state *edgev1.SessionState) (*session.Snapshot, error) {
	var m edgev1.SessionSnapshot
	if err := proto.Unmarshal(state.GetResume(), &m); err != nil {
		return nil, fmt.Errorf("%w: %w", errSnapshot, err)
	}
	m.User, m.Transport, m.Since = state.GetUser(), state.GetTransport(), state.GetSince()
	said := map[string]*edgev1.Subscription{}
	for _, sub := range m.GetSubscriptions() {
		said[sub.GetChannel()] = sub
	}
	m.Subscriptions = nil
	for _, channel := range state.GetChannels() {
		sub := said[channel]
		if sub == nil {
			sub = &edgev1.Subscription{Channel: channel}
		}
		m.Subscriptions = append(m.Subscriptions, sub)
	}
	return decodeSnapshot(&m)
}
