package transport

import (
	"errors"
	"fmt"
	"math"
	"time"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
	"github.com/comet-push/comet/services/broker/internal/replica"
)

// decode makes a frame into a message, which may keep the frame's bytes. What a
// replica may rely on is checked: slots exist, numbers are in their ranges,
// terms are in order, and entries follow each other.
func decode(f *brokerv1.ReplicaFrame) (shard.Slot, replica.Message, error) {
	if f.GetSlot() >= shard.Slots {
		return 0, nil, fmt.Errorf("there is no slot %d", f.GetSlot())
	}
	m, err := decodeMessage(f)
	if err != nil {
		return 0, nil, fmt.Errorf("slot %d: %w", f.GetSlot(), err)
	}
	return shard.Slot(f.GetSlot()), m, nil
}

func decodeMessage(f *brokerv1.ReplicaFrame) (replica.Message, error) {
	switch kind := f.GetKind().(type) {
	case *brokerv1.ReplicaFrame_Lead:
		p := kind.Lead
		return &replica.Lead{Term: p.GetTerm(), Version: p.GetVersion(), Base: p.GetBase(), Round: p.GetRound()}, nil
	case *brokerv1.ReplicaFrame_State:
		return decodeState(kind.State)
	case *brokerv1.ReplicaFrame_Append:
		return decodeAppend(kind.Append)
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
		if p.GetPieces() > math.MaxInt32 {
			return nil, fmt.Errorf("%d pieces of a snapshot", p.GetPieces())
		}
		return &replica.Ack{Term: p.GetTerm(), Round: p.GetRound(), End: p.GetEnd(), Pieces: int(p.GetPieces())}, nil
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

func decodeAppend(p *brokerv1.ReplicaAppend) (*replica.Append, error) {
	m := &replica.Append{
		Term: p.GetTerm(), Round: p.GetRound(), Join: p.GetJoin(), Prev: p.GetPrev(), Commit: p.GetCommit(),
	}
	if len(p.GetEntries()) > 0 && m.Prev >= shard.MaxPosition {
		return nil, fmt.Errorf("entries after %d", m.Prev)
	}
	for rest, next := p.GetEntries(), m.Prev+1; len(rest) > 0; next++ {
		e, size, err := history.Decode(rest)
		switch {
		case err != nil:
			return nil, fmt.Errorf("entry %d: %w", next, err)
		case e.Offset != next || next >= shard.MaxPosition || e.Term > m.Term:
			return nil, fmt.Errorf("entry %d of term %d where %d of a term up to %d must be", e.Offset, e.Term, next, m.Term)
		}
		m.Entries = append(m.Entries, &e)
		rest = rest[size:]
	}
	return m, nil
}
