package transport

import (
	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	"github.com/comet-push/comet/services/broker/internal/history"
	"github.com/comet-push/comet/services/broker/internal/replica"
)

// size is about how many bytes a message takes on the wire, rather more.
func size(m replica.Message) int {
	bytes := overhead
	switch m := m.(type) {
	case *replica.State:
		bytes += 24 * len(m.Terms)
	case *replica.Append:
		for _, e := range m.Entries {
			bytes += overhead + e.Payload() + len(e.Channel) + len(e.Session) + len(e.ID) + len(e.Key)
		}
	case *replica.Piece:
		bytes += len(m.Data)
	}
	return bytes
}

// encode makes a batch of a ping, if it is not 0, and items.
func encode(ping uint64, items []item) []*brokerv1.ReplicaFrame {
	frames := make([]*brokerv1.ReplicaFrame, 0, len(items)+1)
	if ping != 0 {
		frames = append(frames, &brokerv1.ReplicaFrame{Kind: &brokerv1.ReplicaFrame_Ping{Ping: ping}})
	}
	memory := make([]brokerv1.ReplicaFrame, len(items))
	for i := range items {
		f := &memory[i]
		f.Slot = uint32(items[i].slot)
		if m := items[i].message; m != nil {
			encodeMessage(f, m)
		} else {
			f.Kind = &brokerv1.ReplicaFrame_Pong{Pong: items[i].pong}
		}
		frames = append(frames, f)
	}
	return frames
}

func encodeMessage(f *brokerv1.ReplicaFrame, m replica.Message) {
	switch m := m.(type) {
	case *replica.Lead:
		f.Kind = &brokerv1.ReplicaFrame_Lead{Lead: &brokerv1.ReplicaLead{
			Term: m.Term, Version: m.Version, Base: m.Base, Round: m.Round,
		}}
	case *replica.State:
		f.Kind = &brokerv1.ReplicaFrame_State{State: &brokerv1.ReplicaState{
			Term: m.Term, Version: m.Version, Round: m.Round, End: m.End, Terms: encodeTerms(m.Terms),
		}}
	case *replica.Append:
		f.Kind = &brokerv1.ReplicaFrame_Append{Append: &brokerv1.ReplicaAppend{
			Term: m.Term, Round: m.Round, Join: m.Join, Prev: m.Prev, Entries: encodeEntries(m.Entries), Commit: m.Commit,
		}}
	case *replica.Piece:
		f.Kind = &brokerv1.ReplicaFrame_Piece{Piece: &brokerv1.ReplicaPiece{
			Term: m.Term, Round: m.Round, Offset: m.Offset, Seq: uint32(m.Seq), Data: m.Data, Last: m.Last,
		}}
	case *replica.Ack:
		f.Kind = &brokerv1.ReplicaFrame_Ack{Ack: &brokerv1.ReplicaAck{
			Term: m.Term, Round: m.Round, End: m.End, Pieces: uint32(m.Pieces),
		}}
	case *replica.Refuse:
		f.Kind = &brokerv1.ReplicaFrame_Refuse{Refuse: &brokerv1.ReplicaRefuse{
			Term: m.Term, Version: m.Version, Round: m.Round, Need: m.Need,
		}}
	case *replica.Leave:
		f.Kind = &brokerv1.ReplicaFrame_Leave{Leave: &brokerv1.ReplicaLeave{Term: m.Term, Version: m.Version}}
	case *replica.Release:
		f.Kind = &brokerv1.ReplicaFrame_Release{Release: &brokerv1.ReplicaRelease{
			Term: m.Term, Version: m.Version, Round: m.Round,
		}}
	case *replica.Watch:
		f.Kind = &brokerv1.ReplicaFrame_Watch{Watch: &brokerv1.ReplicaWatch{Term: m.Term, Round: m.Round, Number: m.Number}}
	case *replica.Fresh:
		f.Kind = &brokerv1.ReplicaFrame_Fresh{Fresh: &brokerv1.ReplicaFresh{
			Term: m.Term, Round: m.Round, Number: m.Number, Commit: m.Commit, Age: uint64(m.Age),
		}}
	}
}

func encodeTerms(terms []replica.TermEnd) []*brokerv1.ReplicaTerm {
	all := make([]*brokerv1.ReplicaTerm, len(terms))
	for i, t := range terms {
		all[i] = &brokerv1.ReplicaTerm{Term: t.Term, Last: t.Last}
	}
	return all
}

// encodeEntries encodes entries as they are kept in a history.
func encodeEntries(entries []*history.Entry) []byte {
	if len(entries) == 0 {
		return nil
	}
	room := 0
	for _, e := range entries {
		room += e.Room()
	}
	b := make([]byte, 0, room)
	for _, e := range entries {
		b = e.AppendTo(b)
	}
	return b
}
