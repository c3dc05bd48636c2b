package upstream_test

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/comet-push/comet/bayeux"
	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
)

// fakeStream is one Attach call. Guarded by cluster.mu.
type fakeStream struct {
	broker *fakeBroker
	cut    chan struct{}
	wake   chan struct{}
	out    []*brokerv1.Frame

	credit    int64
	places    map[shard.Slot]*fakePlace
	interests map[uint64]string
}

type fakePlace struct {
	pushed, reset bool
	sent          uint64
	marked        uint64
	told          uint64 // what was dropped up to here is known to be lost
}

// Attach implements the service.
func (b *fakeBroker) Attach(stream grpc.BidiStreamingServer[brokerv1.AttachRequest, brokerv1.AttachResponse]) error {
	c := b.cluster
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if first.GetHello() == nil {
		c.t.Error("first command is not hello")
	}
	st := &fakeStream{
		broker: b, cut: make(chan struct{}), wake: make(chan struct{}, 1),
		credit: int64(first.GetHello().GetCredit()),
		places: map[shard.Slot]*fakePlace{}, interests: map[uint64]string{},
	}
	b.set(func() { b.streams[st] = struct{}{}; b.hellos++ })
	defer b.set(func() { delete(b.streams, st) })
	commands, recvErr := rpc.Receive(stream)
	heartbeat := time.NewTicker(time.Second)
	defer heartbeat.Stop()
	for {
		select {
		case <-stream.Context().Done():
			return context.Cause(stream.Context())
		case <-st.cut:
			return status.Error(codes.Unavailable, "cut")
		case cmd, ok := <-commands:
			if !ok {
				return recvErr()
			}
			b.set(func() { st.obey(cmd) })
			continue
		case <-heartbeat.C:
			b.set(st.marks)
		case <-st.wake:
		}
		if err := st.write(stream); err != nil {
			return err
		}
	}
}

func (st *fakeStream) write(stream grpc.BidiStreamingServer[brokerv1.AttachRequest, brokerv1.AttachResponse]) error {
	c := st.broker.cluster
	c.mu.Lock()
	if st.broker.mute {
		c.mu.Unlock()
		return nil
	}
	frames, delay := st.out, st.broker.delay
	st.out = nil
	c.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-st.cut:
			return status.Error(codes.Unavailable, "cut")
		}
	}
	for len(frames) > 0 {
		n := min(len(frames), 7)
		if err := stream.Send(&brokerv1.AttachResponse{Frames: frames[:n]}); err != nil {
			return err
		}
		frames = frames[n:]
	}
	return nil
}

func (st *fakeStream) send(f *brokerv1.Frame) {
	st.out = append(st.out, f)
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

func (st *fakeStream) moved(s uint32, version int64) {
	st.shut(s)
	st.send(&brokerv1.Frame{Kind: &brokerv1.Frame_Moved{Moved: &brokerv1.Moved{Slot: s, Version: version}}})
}

func (st *fakeStream) shut(s uint32) {
	delete(st.places, shard.Slot(s))
	for id, ch := range st.interests {
		if !bayeux.IsPattern(ch) && uint32(shard.Of(ch)) == s {
			delete(st.interests, id)
		}
	}
}

func (st *fakeStream) obey(cmd *brokerv1.AttachRequest) {
	switch k := cmd.GetCommand().(type) {
	case *brokerv1.AttachRequest_Open:
		for _, o := range k.Open.GetSlots() {
			st.open(o)
		}
	case *brokerv1.AttachRequest_Join:
		for _, i := range k.Join.GetInterests() {
			st.join(i)
		}
	case *brokerv1.AttachRequest_Leave:
		for _, id := range k.Leave.GetIds() {
			delete(st.interests, id)
		}
		for _, s := range k.Leave.GetSlots() {
			st.shut(s)
		}
	case *brokerv1.AttachRequest_Credit:
		st.credit += int64(k.Credit.GetBytes())
	case *brokerv1.AttachRequest_Pull:
		st.pull(k.Pull.GetSlot())
	default:
		st.broker.cluster.t.Errorf("unexpected command %v", cmd)
	}
}

func (st *fakeStream) open(o *brokerv1.OpenSlot) {
	slot := &st.broker.cluster.slots[o.GetSlot()]
	if copied := slot.copy == st.broker && o.GetCopy() == slot.row.Term; slot.server != st.broker && !copied {
		st.moved(o.GetSlot(), slot.row.Version)
		return
	}
	log := slot.log()
	p := &fakePlace{sent: log.end(), pushed: o.Since == nil}
	st.places[shard.Slot(o.GetSlot())] = p
	if o.Since != nil {
		p.sent = o.GetSince()
		if p.sent < log.base || p.sent > log.end() {
			p.sent = log.base
			p.reset = !o.GetEarliest()
		}
		if o.GetEarliest() {
			p.told = log.newestDropped()
		}
	}
	st.send(&brokerv1.Frame{Kind: &brokerv1.Frame_Opened{Opened: &brokerv1.Opened{
		Slot: o.GetSlot(), Term: log.term, Base: log.base, Through: log.end(), Reset_: p.reset,
	}}})
	if o.Since != nil {
		st.lag(o.GetSlot(), p.sent)
	}
}

func (st *fakeStream) join(i *brokerv1.Interest) {
	c := st.broker.cluster
	var positions []*brokerv1.SlotPosition
	if bayeux.IsPattern(i.GetChannel()) {
		for s := range st.places {
			positions = append(positions, &brokerv1.SlotPosition{Slot: uint32(s), Offset: c.slots[s].log().end()})
		}
	} else {
		s := shard.Of(i.GetChannel())
		if st.places[s] == nil {
			st.moved(uint32(s), c.slots[s].row.Version)
			return
		}
		positions = []*brokerv1.SlotPosition{{Slot: uint32(s), Offset: c.slots[s].log().end()}}
	}
	if old, taken := st.interests[i.GetId()]; taken {
		c.t.Errorf("interest %d is joined twice: %s, %s", i.GetId(), old, i.GetChannel())
	}
	st.interests[i.GetId()] = i.GetChannel()
	st.send(&brokerv1.Frame{Kind: &brokerv1.Frame_Joined{Joined: &brokerv1.Joined{Id: i.GetId(), Positions: positions}}})
}

func (st *fakeStream) wants(e *brokerv1.Entry) bool {
	for _, i := range st.interests {
		if matches(i, e.GetChannel()) {
			return true
		}
	}
	return false
}

// push sends a new entry, or stops pushing.
func (st *fakeStream) push(s shard.Slot, e *brokerv1.Entry) bool {
	p := st.places[s]
	if p == nil || !p.pushed || !st.wants(e) {
		return false
	}
	if st.credit <= 0 {
		p.pushed, p.sent = false, e.GetOffset()-1
		st.lag(uint32(s), p.sent)
		return false
	}
	st.entry(uint32(s), e)
	p.sent = e.GetOffset()
	return true
}

func (st *fakeStream) lag(s uint32, through uint64) {
	st.send(&brokerv1.Frame{Kind: &brokerv1.Frame_Lag{Lag: &brokerv1.Lag{Slot: s, Through: through}}})
}

func (st *fakeStream) entry(s uint32, e *brokerv1.Entry) {
	st.credit -= int64(len(e.GetData()) + len(e.GetExt()) + len(e.GetMembers()) + len(e.GetChannel()) + 64)
	st.send(&brokerv1.Frame{Kind: &brokerv1.Frame_Entries{Entries: &brokerv1.Entries{Slot: s, Entries: []*brokerv1.Entry{e}}}})
}

func (st *fakeStream) pull(s uint32) {
	c := st.broker.cluster
	p := st.places[shard.Slot(s)]
	if p == nil || st.broker.deaf {
		return // its Moved is on the way
	}
	log := c.slots[s].log()
	if p.pushed {
		p.sent = log.end()
		st.send(&brokerv1.Frame{Kind: &brokerv1.Frame_Resumed{Resumed: &brokerv1.Resumed{Slot: s, Through: p.sent}}})
		return
	}
	st.check(s, p, log)
	for _, e := range log.after(p.sent) {
		if !st.wants(e) {
			continue
		}
		if st.credit <= 0 {
			p.sent = e.GetOffset() - 1
			st.lag(s, p.sent)
			return
		}
		st.entry(s, e)
		p.sent = e.GetOffset()
	}
	p.sent, p.pushed = log.end(), true
	st.send(&brokerv1.Frame{Kind: &brokerv1.Frame_Resumed{Resumed: &brokerv1.Resumed{Slot: s, Through: p.sent}}})
}

// check tells the interests that lost something after the place's position.
func (st *fakeStream) check(s uint32, p *fakePlace, log *fakeLog) {
	var lost []uint64
	for id, i := range st.interests {
		if !bayeux.IsPattern(i) && uint32(shard.Of(i)) != s {
			continue
		}
		gone := p.reset
		for channel, dropped := range log.dropped {
			gone = gone || matches(i, channel) && dropped > max(p.sent, p.told)
		}
		if gone {
			lost = append(lost, id)
		}
	}
	if len(lost) > 0 {
		st.send(&brokerv1.Frame{Kind: &brokerv1.Frame_Resync{Resync: &brokerv1.Resync{Slot: s, Interests: lost, Through: p.sent}}})
	}
	p.reset = false
	p.told = log.newestDropped()
}

func (st *fakeStream) marks() {
	marks := &brokerv1.Marks{}
	for s, p := range st.places {
		slot := &st.broker.cluster.slots[s]
		if st.broker.stale && slot.server != st.broker && p.pushed {
			marks.Stale = append(marks.Stale, uint32(s))
			continue
		}
		if log := slot.log(); p.pushed && p.marked != log.end() {
			p.marked = log.end()
			marks.Marks = append(marks.Marks, &brokerv1.Mark{
				Slot: uint32(s), Term: log.term, Commit: log.end(), Version: slot.row.Version,
			})
		}
	}
	st.send(&brokerv1.Frame{Kind: &brokerv1.Frame_Marks{Marks: marks}})
}
