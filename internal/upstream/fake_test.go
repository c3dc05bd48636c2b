package upstream_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/comet-push/comet/bayeux"
	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/membership/memory"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
)

// cluster is a reference model of brokers: the protocol of broker.proto over
// real gRPC in memory, on plain slices under one lock, with every fault a test
// can think of.
type cluster struct {
	t     *testing.T
	store *memory.Store
	dir   *memory.Directory
	views <-chan membership.View
	lead  membership.Leadership
	pool  *rpc.Pool
	stop  context.CancelFunc
	tasks sync.WaitGroup

	mu     sync.Mutex
	doors  map[string]*bufconn.Listener // by address
	live   map[string]*fakeBroker       // by address
	slots  [shard.Slots]fakeSlot
	retain int // entries a channel keeps; 0: all
	copies bool
	copied int // entries that copies pushed
	nextID int
	clock  atomic.Int64 // orders what happens
	birth  map[*brokerv1.Entry]moment
}

// moment is when something happened.
type moment struct {
	seq int64
	at  time.Time
}

func (c *cluster) now() moment { return moment{c.clock.Add(1), time.Now()} }

// fakeSlot is a slot: who serves it, and every log it ever had.
type fakeSlot struct {
	row    shard.Row
	server *fakeBroker // nil: nobody, for the moment
	copy   *fakeBroker // has followers, too; or nil
	logs   []*fakeLog
}

func (s *fakeSlot) log() *fakeLog { return s.logs[len(s.logs)-1] }

type fakeLog struct {
	term    uint64
	base    uint64
	entries []*brokerv1.Entry
	keys    map[string]*brokerv1.Entry
	dropped map[string]uint64 // by channel: the newest entry that is not retained
}

func (l *fakeLog) end() uint64 { return l.base + uint64(len(l.entries)) }

func (l *fakeLog) newestDropped() uint64 {
	newest := uint64(0)
	for _, dropped := range l.dropped {
		newest = max(newest, dropped)
	}
	return newest
}

// after returns what is retained after an offset.
func (l *fakeLog) after(offset uint64) []*brokerv1.Entry {
	var kept []*brokerv1.Entry
	for _, e := range l.entries[offset-l.base:] {
		if e.GetOffset() > l.dropped[e.GetChannel()] {
			kept = append(kept, e)
		}
	}
	return kept
}

func newCluster(t *testing.T, brokers int) *cluster {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	c := &cluster{
		t: t, store: memory.NewStore(0), stop: stop,
		doors: map[string]*bufconn.Listener{}, live: map[string]*fakeBroker{},
		birth: map[*brokerv1.Entry]moment{},
	}
	t.Cleanup(c.close)
	c.dir = c.store.Directory()
	c.pool = rpc.NewPool(c.dial)
	lead, err := c.dir.Campaign(ctx, "controller")
	if err != nil {
		t.Fatal(err)
	}
	c.lead = lead
	c.views = c.dir.Watch(ctx)
	var all []*fakeBroker
	for range brokers {
		all = append(all, c.start())
	}
	if brokers > 0 {
		for s := range shard.Slot(shard.Slots) {
			c.move(s, all[int(s)%brokers], 0, 0)
		}
	}
	return c
}

func (c *cluster) close() {
	for _, b := range c.brokers() {
		b.kill()
	}
	c.stop()
	if err := c.pool.Close(); err != nil {
		c.t.Error(err)
	}
	c.tasks.Wait()
}

func (c *cluster) brokers() []*fakeBroker {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*fakeBroker
	for i := range c.nextID {
		if b := c.live[addr(i)]; b != nil {
			all = append(all, b)
		}
	}
	return all
}

func addr(i int) string { return fmt.Sprintf("broker-%d:7070", i) }

func (c *cluster) dial(ctx context.Context, addr string) (net.Conn, error) {
	c.mu.Lock()
	door := c.doors[addr]
	c.mu.Unlock()
	if door == nil {
		return nil, errors.New("connection refused")
	}
	return door.DialContext(ctx)
}

// move gives a slot to a broker, with a new log: first the row is written, then
// the old one stops serving, then the new one begins.
func (c *cluster) move(s shard.Slot, to *fakeBroker, stopAfter, startAfter time.Duration) {
	c.mu.Lock()
	slot := &c.slots[s]
	row := slot.row
	c.mu.Unlock()
	row.Term++
	row.Primary, row.Addr = to.node.Member(), to.node.Addr
	row.InSync, row.Replicas = []string{row.Primary}, []string{row.Primary}
	var backup *fakeBroker
	if others := slices.DeleteFunc(c.brokers(), func(b *fakeBroker) bool { return b == to }); c.copies && len(others) > 0 {
		backup = others[int(s)%len(others)]
		row.InSync = append(row.InSync, backup.node.Member())
	}
	row.Base = shard.NextBase(row.Base, time.Now())
	if err := c.lead.Write(context.Background(), membership.Change{Slot: s, Row: row}); err != nil {
		c.t.Error(err)
	}
	for row.Version == c.version(s) {
		v := <-c.views
		row.Version = v.Table.Row(s).Version
	}
	c.mu.Lock()
	slot.row = row
	c.mu.Unlock()
	time.Sleep(stopAfter)
	c.mu.Lock()
	old, copied := slot.server, slot.copy
	slot.server, slot.copy = nil, nil
	old.moved(s, row.Version)
	copied.moved(s, row.Version)
	c.mu.Unlock()
	time.Sleep(startAfter)
	c.mu.Lock()
	defer c.mu.Unlock()
	slot.server, slot.copy = to, backup
	slot.logs = append(slot.logs, &fakeLog{
		term: row.Term, base: row.Base, keys: map[string]*brokerv1.Entry{}, dropped: map[string]uint64{},
	})
}

// pause stops a slot's copy from having followers, for a while.
func (c *cluster) pause(s shard.Slot, d time.Duration) {
	c.mu.Lock()
	slot := &c.slots[s]
	paused, term := slot.copy, slot.row.Term
	slot.copy = nil
	paused.moved(s, slot.row.Version)
	c.mu.Unlock()
	time.Sleep(d)
	c.mu.Lock()
	defer c.mu.Unlock()
	if slot.row.Term == term {
		slot.copy = paused
	}
}

func (c *cluster) version(s shard.Slot) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.slots[s].row.Version
}

// publish appends where the slot is served now, as somebody else would.
func (c *cluster) publish(channel, data string) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, _ := c.append(&brokerv1.Offer{Channel: channel, Data: []byte(data)})
	return e.GetOffset()
}

// append appends and fans out. c.mu is held.
func (c *cluster) append(req *brokerv1.Offer) (e *brokerv1.Entry, duplicate bool) {
	s := shard.Of(req.GetChannel())
	slot := &c.slots[s]
	log := slot.log()
	key := req.GetChannel() + " " + req.GetIdempotencyKey()
	if known := log.keys[key]; known != nil && req.GetIdempotencyKey() != "" {
		return known, true
	}
	e = &brokerv1.Entry{
		Offset: log.end() + 1, Term: log.term, Channel: req.GetChannel(),
		Data: req.GetData(), Ext: req.GetExt(), Members: req.GetMembers(), Key: req.GetIdempotencyKey(),
	}
	log.entries = append(log.entries, e)
	log.keys[key] = e
	c.birth[e] = c.now()
	if c.retain > 0 {
		kept := 0
		for _, old := range slices.Backward(log.entries) {
			if old.GetChannel() != e.GetChannel() {
				continue
			}
			if kept++; kept > c.retain {
				log.dropped[e.GetChannel()] = old.GetOffset()
				break
			}
		}
	}
	for st := range slot.server.streams {
		st.push(s, e)
	}
	if slot.copy != nil {
		for st := range slot.copy.streams {
			if st.push(s, e) {
				c.copied++
			}
		}
	}
	return e, false
}

// fakeBroker serves the slots whose server it is.
type fakeBroker struct {
	brokerv1.UnimplementedBrokerServiceServer
	cluster *cluster
	node    membership.Node
	server  *grpc.Server
	leave   context.CancelFunc

	// Guarded by cluster.mu.
	streams map[*fakeStream]struct{}
	appends map[chan struct{}]struct{} // closed to cut Append calls
	mute    bool                       // sends nothing on Attach
	deaf    bool                       // does not hear Pull
	stale   bool                       // proves nothing of its copies
	delay   time.Duration              // before each thing it sends
	script  func(*brokerv1.Offer) *brokerv1.Answer
	reads   func(*brokerv1.ReadRequest) (*brokerv1.ReadResponse, error)
	hellos  int
}

// start adds a broker that owns nothing.
func (c *cluster) start() *fakeBroker {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.nextID
	c.nextID++
	ctx, leave := context.WithCancel(context.Background())
	b := &fakeBroker{
		cluster: c, server: grpc.NewServer(), leave: leave,
		node:    membership.Node{Name: fmt.Sprintf("broker-%d", id), ID: "1", Roles: []membership.Role{membership.Broker}, Addr: addr(id)},
		streams: map[*fakeStream]struct{}{}, appends: map[chan struct{}]struct{}{},
	}
	brokerv1.RegisterBrokerServiceServer(b.server, b)
	door := bufconn.Listen(1 << 16)
	c.doors[b.node.Addr], c.live[b.node.Addr] = door, b
	dir := c.store.Directory()
	c.tasks.Go(func() {
		if err := b.server.Serve(door); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			c.t.Error(err)
		}
	})
	c.tasks.Go(func() {
		if err := dir.Register(ctx, b.node, nil); err != nil {
			c.t.Error(err)
		}
	})
	return b
}

// kill ends a broker without a word. Its slots stay in the table.
func (b *fakeBroker) kill() {
	c := b.cluster
	c.mu.Lock()
	delete(c.doors, b.node.Addr)
	delete(c.live, b.node.Addr)
	c.mu.Unlock()
	b.cut()
	b.server.Stop()
	b.leave()
}

// cut ends all streams.
func (b *fakeBroker) cut() {
	b.cluster.mu.Lock()
	defer b.cluster.mu.Unlock()
	for st := range b.streams {
		close(st.cut)
	}
	clear(b.streams)
	for cut := range b.appends {
		close(cut)
	}
	clear(b.appends)
}

func (b *fakeBroker) set(change func()) {
	b.cluster.mu.Lock()
	defer b.cluster.mu.Unlock()
	change()
}

func (b *fakeBroker) moved(s shard.Slot, version int64) {
	if b == nil {
		return
	}
	for st := range b.streams {
		if st.places[s] != nil {
			st.moved(uint32(s), version)
		}
	}
}

// Append implements the service: one answer at a time.
func (b *fakeBroker) Append(stream grpc.BidiStreamingServer[brokerv1.AppendRequest, brokerv1.AppendResponse]) error {
	cut := make(chan struct{})
	b.set(func() { b.appends[cut] = struct{}{} })
	requests, recvErr := rpc.Receive(stream)
	for {
		select {
		case <-cut:
			return status.Error(codes.Unavailable, "cut")
		case <-stream.Context().Done():
			return stream.Context().Err()
		case req, ok := <-requests:
			if !ok {
				return recvErr()
			}
			for _, offer := range req.GetOffers() {
				if err := b.serve(stream, offer, cut); err != nil {
					return err
				}
			}
		}
	}
}

func (b *fakeBroker) serve(
	stream grpc.BidiStreamingServer[brokerv1.AppendRequest, brokerv1.AppendResponse], offer *brokerv1.Offer, cut <-chan struct{},
) error {
	b.cluster.mu.Lock()
	answer, delay := b.answer(offer), b.delay
	b.cluster.mu.Unlock()
	select {
	case <-cut:
		return status.Error(codes.Unavailable, "cut")
	case <-time.After(delay):
	}
	if answer == nil {
		return nil
	}
	return stream.Send(&brokerv1.AppendResponse{Answers: []*brokerv1.Answer{answer}})
}

func (b *fakeBroker) answer(req *brokerv1.Offer) *brokerv1.Answer {
	if b.script != nil {
		resp := b.script(req)
		if resp != nil {
			resp.RequestId = req.GetRequestId()
		}
		return resp
	}
	slot := &b.cluster.slots[shard.Of(req.GetChannel())]
	if slot.server != b {
		return &brokerv1.Answer{
			RequestId: req.GetRequestId(), Refused: channelv1.ErrorReason_ERROR_REASON_MOVED, Version: slot.row.Version,
		}
	}
	e, duplicate := b.cluster.append(req)
	return &brokerv1.Answer{RequestId: req.GetRequestId(), Offset: e.GetOffset(), Duplicate: duplicate}
}

// Read implements the service.
func (b *fakeBroker) Read(_ context.Context, req *brokerv1.ReadRequest) (*brokerv1.ReadResponse, error) {
	c := b.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	if b.reads != nil {
		return b.reads(req)
	}
	slot := &c.slots[shard.Of(req.GetChannel())]
	if slot.server != b {
		return nil, rpc.Error(codes.FailedPrecondition, channelv1.ErrorReason_ERROR_REASON_MOVED, "not here")
	}
	log := slot.log()
	resp := &brokerv1.ReadResponse{Through: log.end()}
	for _, e := range log.after(max(log.base, req.GetSince())) {
		if e.GetChannel() == req.GetChannel() {
			resp.Entries = append(resp.Entries, e)
		}
	}
	return resp, nil
}

func matches(interest, channel string) bool {
	return interest == channel || bayeux.IsPattern(interest) && bayeux.Match(interest, channel)
}
