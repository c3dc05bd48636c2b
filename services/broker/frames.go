package broker

import (
	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
	"github.com/comet-push/comet/services/broker/internal/hub"
)

// batchBytes is how many bytes of entries go into one response, if there are
// as many.
const batchBytes = 64 << 10

type sender interface {
	Send(resp *brokerv1.AttachResponse) error
}

// frameWriter sends what the hub has for a follower.
type frameWriter struct {
	stream  sender
	metrics *metrics

	frames  []*brokerv1.Frame
	entries *brokerv1.Entries // of the last frame, if it has entries
	bytes   int
	opening shard.Slot // the slot opened last, until its Lag
}

func newFrameWriter(stream sender, m *metrics) *frameWriter {
	return &frameWriter{stream: stream, metrics: m, opening: shard.Slots}
}

func (w *frameWriter) write(items []hub.Item) error {
	for _, item := range items {
		if item.Entry == nil {
			w.frames = append(w.frames, w.control(item.Frame))
			w.entries = nil
			continue
		}
		w.add(item.Slot, item.Entry)
		if w.bytes >= batchBytes {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	return w.flush()
}

// add appends an entry to the last frame if that has entries of its slot.
func (w *frameWriter) add(n shard.Slot, e *history.Entry) {
	if w.entries == nil || w.entries.GetSlot() != uint32(n) {
		w.entries = &brokerv1.Entries{Slot: uint32(n)}
		w.frames = append(w.frames, &brokerv1.Frame{Kind: &brokerv1.Frame_Entries{Entries: w.entries}})
	}
	w.entries.Entries = append(w.entries.Entries, entry(e))
	w.bytes += e.Cost()
	w.metrics.deliveries.Inc()
}

func (w *frameWriter) flush() error {
	if len(w.frames) == 0 {
		return nil
	}
	frames := w.frames
	// Not used again: the stream may still read them after Send returned.
	w.frames, w.entries, w.bytes = nil, nil, 0
	return w.stream.Send(&brokerv1.AttachResponse{Frames: frames})
}

// control is a frame without entries as it goes over the wire.
func (w *frameWriter) control(f hub.Frame) *brokerv1.Frame {
	switch f := f.(type) {
	case hub.Opened:
		w.opening = f.Slot
		return &brokerv1.Frame{Kind: &brokerv1.Frame_Opened{Opened: &brokerv1.Opened{
			Slot: uint32(f.Slot), Term: f.Term, Base: f.Base, Through: f.Through, Reset_: f.Reset,
		}}}
	case hub.Joined:
		return &brokerv1.Frame{Kind: &brokerv1.Frame_Joined{Joined: joined(f)}}
	case hub.Lag:
		if f.Slot != w.opening { // else it only answers open with since
			w.metrics.lags.Inc()
		}
		w.opening = shard.Slots
		return &brokerv1.Frame{Kind: &brokerv1.Frame_Lag{Lag: &brokerv1.Lag{Slot: uint32(f.Slot), Through: f.Through}}}
	case hub.Resumed:
		return &brokerv1.Frame{Kind: &brokerv1.Frame_Resumed{Resumed: &brokerv1.Resumed{
			Slot: uint32(f.Slot), Through: f.Through,
		}}}
	case hub.Resync:
		return &brokerv1.Frame{Kind: &brokerv1.Frame_Resync{Resync: &brokerv1.Resync{
			Slot: uint32(f.Slot), Interests: f.Interests, Through: f.Through,
		}}}
	case hub.Moved:
		return &brokerv1.Frame{Kind: &brokerv1.Frame_Moved{Moved: &brokerv1.Moved{
			Slot: uint32(f.Slot), Version: f.Version,
		}}}
	case hub.Marks:
		return &brokerv1.Frame{Kind: &brokerv1.Frame_Marks{Marks: marks(f)}}
	}
	return &brokerv1.Frame{}
}

func joined(f hub.Joined) *brokerv1.Joined {
	j := &brokerv1.Joined{Id: f.ID, Positions: make([]*brokerv1.SlotPosition, len(f.Positions))}
	for i, p := range f.Positions {
		j.Positions[i] = &brokerv1.SlotPosition{Slot: uint32(p.Slot), Offset: p.Offset}
	}
	return j
}

func marks(f hub.Marks) *brokerv1.Marks {
	m := &brokerv1.Marks{Marks: make([]*brokerv1.Mark, len(f.Moved)), Stale: make([]uint32, len(f.Stale))}
	for i, k := range f.Moved {
		m.Marks[i] = &brokerv1.Mark{Slot: uint32(k.Slot), Term: k.Term, Commit: k.Commit, Version: k.Version}
	}
	for i, n := range f.Stale {
		m.Stale[i] = uint32(n)
	}
	return m
}

// entry is an entry as it goes over the wire.
func entry(e *history.Entry) *brokerv1.Entry {
	return &brokerv1.Entry{
		Offset: e.Offset, Prev: e.Prev, Term: e.Term, Channel: e.Channel,
		Data: e.Data, Ext: e.Ext, Members: e.Members, TimeMs: e.Time,
		Session: e.Session, Id: e.ID, Key: e.Key,
	}
}
