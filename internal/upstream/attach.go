package upstream

import (
	"context"
	"errors"
	"slices"

	"google.golang.org/grpc"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	"github.com/comet-push/comet/internal/shard"
)

// The bounds of one attachment.
const (
	maxPulls    = 16    // slots pulled at a time, of those that lag
	maxJoins    = 1000  // interests in one Join: 256 KiB of names
	maxLeaves   = 10000 // numbers in one Leave
	maxCommands = 4096  // commands that wait to be sent
)

// errStuck says why a stream was dropped.
var errStuck = errors.New("the broker does not take commands")

// attachment is one Attach call to a broker: one stream, one life.
type attachment struct {
	peer   *peer
	cancel context.CancelFunc
	out    *outbox[brokerv1.AttachRequest]

	// The loop's.
	turn    turn
	taken   uint64      // bytes the sink has taken since credit was granted
	silent  int         // heartbeats without marks
	heard   bool        // there were marks
	lagging []*followed // to be pulled, unless their state says otherwise
	pulling int         // pulls without an answer
}

// event is what a stream brought: frames, or its end.
type event struct {
	stream *attachment
	resp   *brokerv1.AttachResponse // nil: it ended
	err    error
}

// dial opens a stream to a peer. It can be sent to at once.
func (l *loop) dial(run context.Context, p *peer) *attachment {
	ctx, cancel := context.WithCancel(run)
	st := &attachment{peer: p, cancel: cancel, out: newOutbox[brokerv1.AttachRequest]()}
	st.out.put(&brokerv1.AttachRequest{Command: &brokerv1.AttachRequest_Hello{
		Hello: &brokerv1.Hello{Node: l.cfg.Node, Credit: uint64(l.cfg.Credit)},
	}})
	l.streams.Go(func() {
		err := l.converse(ctx, st, p.addr)
		cancel()
		select {
		case l.events <- event{stream: st, err: err}:
		case <-run.Done():
		}
	})
	return st
}

func (l *loop) converse(ctx context.Context, st *attachment, addr string) error {
	conn, err := l.cfg.Conns.Conn(addr)
	if err != nil {
		return err
	}
	stream, err := brokerv1.NewBrokerServiceClient(conn).Attach(ctx, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	send := func(commands []*brokerv1.AttachRequest) error {
		for _, c := range commands {
			if err := stream.Send(c); err != nil {
				return err
			}
		}
		return nil
	}
	return converse(st.cancel, st.out, send, func() error {
		resp, err := stream.Recv()
		if err != nil {
			return err
		}
		select {
		case l.events <- event{stream: st, resp: resp}:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
}

// turn is what one turn of the loop wants to tell a broker. It is sent in the
// order of the fields: a slot can leave and come back in one turn, joins follow
// the open of their slot, and a pull what it is to cover.
type turn struct {
	leaves []uint64
	shuts  []uint32
	opens  []*brokerv1.OpenSlot
	joins  []*brokerv1.Interest
	credit uint64
	pulls  []uint32
}

func (t *turn) leave(i *interest) { t.leaves = append(t.leaves, i.id) }

func (t *turn) shut(s shard.Slot) { t.shuts = append(t.shuts, uint32(s)) }

func (t *turn) join(i *interest) {
	t.joins = append(t.joins, &brokerv1.Interest{Id: i.id, Channel: i.channel})
}

// pull asks for lagging slots, after granting all the credit there is.
func (st *attachment) pull(window uint64) {
	if len(st.lagging) > 0 || st.taken >= window/4 {
		st.turn.credit += st.taken
		st.taken = 0
	}
	for len(st.lagging) > 0 && st.pulling < maxPulls {
		s := st.lagging[0]
		st.lagging = st.lagging[1:]
		if s.state != lagging || s.peer != st.peer {
			continue
		}
		s.state = pulling
		st.pulling++
		st.turn.pulls = append(st.turn.pulls, uint32(s.slot))
	}
}

// flush sends what the turn wants to say; false if the broker does not listen.
func (st *attachment) flush() bool {
	t := st.turn
	st.turn = turn{}
	var commands []*brokerv1.AttachRequest
	for ids := range slices.Chunk(t.leaves, maxLeaves) {
		commands = append(commands, &brokerv1.AttachRequest{Command: &brokerv1.AttachRequest_Leave{
			Leave: &brokerv1.Leave{Ids: ids},
		}})
	}
	if len(t.shuts) > 0 {
		commands = append(commands, &brokerv1.AttachRequest{Command: &brokerv1.AttachRequest_Leave{
			Leave: &brokerv1.Leave{Slots: t.shuts},
		}})
	}
	if len(t.opens) > 0 {
		commands = append(commands, &brokerv1.AttachRequest{Command: &brokerv1.AttachRequest_Open{
			Open: &brokerv1.Open{Slots: t.opens},
		}})
	}
	for interests := range slices.Chunk(t.joins, maxJoins) {
		commands = append(commands, &brokerv1.AttachRequest{Command: &brokerv1.AttachRequest_Join{
			Join: &brokerv1.Join{Interests: interests},
		}})
	}
	if t.credit > 0 {
		commands = append(commands, &brokerv1.AttachRequest{Command: &brokerv1.AttachRequest_Credit{
			Credit: &brokerv1.Credit{Bytes: t.credit},
		}})
	}
	for _, s := range t.pulls {
		commands = append(commands, &brokerv1.AttachRequest{Command: &brokerv1.AttachRequest_Pull{
			Pull: &brokerv1.Pull{Slot: s},
		}})
	}
	return len(commands) == 0 || st.out.put(commands...) <= maxCommands
}
