package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/proto"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
	"github.com/comet-push/comet/services/broker/internal/replica"
)

// frame is one thing that came, or that is to be sent.
type frame struct {
	slot       shard.Slot
	message    replica.Message // nil: it is a ping or a pong
	ping, pong uint64          // no ping has the number 0
}

// cut returns the first frame of a batch and what comes after it.
func cut(batch []byte) (f, rest []byte, ok bool) {
	if len(batch) < lengthBytes {
		return nil, nil, false
	}
	size, rest := binary.BigEndian.Uint32(batch), batch[lengthBytes:]
	if uint64(size) > uint64(len(rest)) {
		return nil, nil, false
	}
	return rest[:size:size], rest[size:], true
}

// cutHello returns the hello that a batch begins with, or nil.
func cutHello(batch []byte) (hello *brokerv1.ReplicaHello, rest []byte) {
	b, rest, _ := cut(batch)
	f := &brokerv1.ReplicaFrame{}
	if proto.Unmarshal(b, f) != nil {
		return nil, nil
	}
	return f.GetHello(), rest
}

// decode reads a frame, of which it may keep the bytes. What a replica may rely
// on is checked: slots exist, numbers are in their ranges, terms are in order,
// and entries follow each other.
func decode(b []byte) (frame, error) {
	f, ok, err := readHot(b)
	if !ok {
		f, err = decodeAny(b)
	}
	if err != nil {
		return frame{}, fmt.Errorf("slot %d: %w", f.slot, err)
	}
	return f, nil
}

// decodeAny reads any frame.
func decodeAny(b []byte) (f frame, err error) {
	from := &brokerv1.ReplicaFrame{}
	if err := proto.Unmarshal(b, from); err != nil {
		return frame{}, err
	}
	if from.GetSlot() >= shard.Slots {
		return frame{}, fmt.Errorf("there is no slot %d", from.GetSlot())
	}
	f.slot = shard.Slot(from.GetSlot())
	switch kind := from.GetKind().(type) {
	case *brokerv1.ReplicaFrame_Ping:
		if f.ping = kind.Ping; f.ping == 0 {
			err = errors.New("a ping without a number")
		}
	case *brokerv1.ReplicaFrame_Pong:
		f.pong = kind.Pong
	default:
		f.message, err = decodeMessage(from)
	}
	return f, err
}

func decodeMessage(f *brokerv1.ReplicaFrame) (replica.Message, error) {
	switch kind := f.GetKind().(type) {
	case *brokerv1.ReplicaFrame_Lead:
		p := kind.Lead
		return &replica.Lead{Term: p.GetTerm(), Version: p.GetVersion(), Base: p.GetBase(), Round: p.GetRound()}, nil
	case *brokerv1.ReplicaFrame_State:
		return decodeState(kind.State)
	case *brokerv1.ReplicaFrame_Append:
		p := kind.Append
		return newAppend(replica.Append{
			Term: p.GetTerm(), Round: p.GetRound(), Join: p.GetJoin(), Prev: p.GetPrev(), Commit: p.GetCommit(),
		}, p.GetEntries())
	case *brokerv1.ReplicaFrame_Piece:
		p := kind.Piece
		if p.GetSeq() > math.MaxInt32 {
			return nil, fmt.Errorf("piece %d of a snapshot", p.GetSeq())
		}
		return &replica.Piece{
			Term: p.GetTerm(), Round: p.GetRound(), Offset: p.GetOffset(), Seq: int(p.GetSeq()), Data: p.GetData(), Last: p.GetLast(),
		}, nil
	case *brokerv1.ReplicaFrame_Ack:
		p := kind.Ack
		return newAck(p.GetTerm(), p.GetRound(), p.GetEnd(), uint64(p.GetPieces()))
	case *brokerv1.ReplicaFrame_Refuse:
		p := kind.Refuse
		return &replica.Refuse{Term: p.GetTerm(), Version: p.GetVersion(), Round: p.GetRound(), Need: p.GetNeed()}, nil
	case *brokerv1.ReplicaFrame_Leave:
		return &replica.Leave{Term: kind.Leave.GetTerm(), Version: kind.Leave.GetVersion()}, nil
	case *brokerv1.ReplicaFrame_Release:
		p := kind.Release
		return &replica.Release{Term: p.GetTerm(), Version: p.GetVersion(), Round: p.GetRound()}, nil
	case *brokerv1.ReplicaFrame_Watch:
		p := kind.Watch
		return &replica.Watch{Term: p.GetTerm(), Round: p.GetRound(), Number: p.GetNumber()}, nil
	case *brokerv1.ReplicaFrame_Fresh:
		p := kind.Fresh
		if p.GetAge() > math.MaxInt64 {
			return nil, fmt.Errorf("a mark of an age of %d ns", p.GetAge())
		}
		return &replica.Fresh{
			Term: p.GetTerm(), Round: p.GetRound(), Number: p.GetNumber(), Commit: p.GetCommit(), Age: time.Duration(p.GetAge()),
		}, nil
	case *brokerv1.ReplicaFrame_Hello:
		return nil, errors.New("hello came for a second time")
	}
	return nil, errors.New("a frame of no known kind")
}

func decodeState(p *brokerv1.ReplicaState) (*replica.State, error) {
	m := &replica.State{Term: p.GetTerm(), Version: p.GetVersion(), Round: p.GetRound(), End: p.GetEnd()}
	var before replica.TermEnd
	for _, t := range p.GetTerms() {
		end := replica.TermEnd{Term: t.GetTerm(), Last: t.GetLast()}
		if end.Term <= before.Term || end.Last <= before.Last || end.Last > m.End {
			return nil, fmt.Errorf("term %d ends at %d, the one before is %d and ends at %d, the log ends at %d",
				end.Term, end.Last, before.Term, before.Last, m.End)
		}
		m.Terms = append(m.Terms, end)
		before = end
	}
	return m, nil
}

func newAck(term, round, end, pieces uint64) (replica.Message, error) {
	if pieces > math.MaxInt32 {
		return nil, fmt.Errorf("%d pieces of a snapshot", pieces)
	}
	return &replica.Ack{Term: term, Round: round, End: end, Pieces: int(pieces)}, nil
}

// newAppend returns a message with the entries that bytes hold.
func newAppend(from replica.Append, entries []byte) (replica.Message, error) {
	one := &struct { // nearly always there is one entry
		message replica.Append
		entry   history.Entry
		list    [1]*history.Entry
	}{message: from}
	m := &one.message
	if len(entries) > 0 && m.Prev >= shard.MaxPosition {
		return nil, fmt.Errorf("entries after %d", m.Prev)
	}
	m.Entries = one.list[:0]
	for next := m.Prev + 1; len(entries) > 0; next++ {
		e := &one.entry
		if len(m.Entries) > 0 {
			e = new(history.Entry)
		}
		size, err := e.Decode(entries)
		switch {
		case err != nil:
			return nil, fmt.Errorf("entry %d: %w", next, err)
		case e.Offset != next || next >= shard.MaxPosition || e.Term > m.Term:
			return nil, fmt.Errorf("entry %d of term %d where %d of a term up to %d must be", e.Offset, e.Term, next, m.Term)
		}
		m.Entries = append(m.Entries, e)
		entries = entries[size:]
	}
	return m, nil
}
