package transport

import (
	"encoding/binary"

	"google.golang.org/protobuf/proto"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	"github.com/comet-push/comet/services/broker/internal/replica"
)

// size is about how many bytes a frame with the message takes, rather more.
func size(m replica.Message) int {
	bytes := overhead
	switch m := m.(type) {
	case *replica.State:
		bytes += 24 * len(m.Terms)
	case *replica.Append:
		for _, e := range m.Entries {
			bytes += e.Size()
		}
	case *replica.Piece:
		bytes += len(m.Data)
	}
	return bytes
}

// encode appends a batch of a ping, if it is not 0, and items.
func encode(b []byte, ping uint64, items []item) []byte {
	if ping != 0 {
		b = appendFrame(b, &brokerv1.ReplicaFrame{Kind: &brokerv1.ReplicaFrame_Ping{Ping: ping}})
	}
	for i := range items {
		f := &items[i].frame
		switch m := f.message.(type) {
		case *replica.Append:
			b = seal(appendAppend(open(b), f.slot, m), len(b))
		case *replica.Ack:
			b = seal(appendAck(open(b), f.slot, m), len(b))
		default:
			b = appendFrame(b, f.encode())
		}
	}
	return b
}

// appendFrame appends a frame to a batch.
func appendFrame(b []byte, f *brokerv1.ReplicaFrame) []byte {
	grown, err := proto.MarshalOptions{}.MarshalAppend(open(b), f)
	if err != nil {
		panic("transport: " + err.Error()) // a name that is not UTF-8, which no member has
	}
	return seal(grown, len(b))
}

// lengthBytes is what the length of a frame takes.
const lengthBytes = 4

// open leaves room for the length of a frame, and seal fills it in.
func open(b []byte) []byte { return append(b, make([]byte, lengthBytes)...) }

func seal(b []byte, at int) []byte {
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-lengthBytes))
	return b
}

// encode makes a frame of a pong, or a message that is rare.
func (f *frame) encode() *brokerv1.ReplicaFrame {
	to := &brokerv1.ReplicaFrame{Slot: uint32(f.slot)}
	switch m := f.message.(type) {
	case nil:
		to.Kind = &brokerv1.ReplicaFrame_Pong{Pong: f.pong}
	case *replica.Lead:
		to.Kind = &brokerv1.ReplicaFrame_Lead{Lead: &brokerv1.ReplicaLead{
			Term: m.Term, Version: m.Version, Base: m.Base, Round: m.Round,
		}}
	case *replica.State:
		to.Kind = &brokerv1.ReplicaFrame_State{State: &brokerv1.ReplicaState{
			Term: m.Term, Version: m.Version, Round: m.Round, End: m.End, Terms: encodeTerms(m.Terms),
		}}
	case *replica.Piece:
		to.Kind = &brokerv1.ReplicaFrame_Piece{Piece: &brokerv1.ReplicaPiece{
			Term: m.Term, Round: m.Round, Offset: m.Offset, Seq: uint32(m.Seq), Data: m.Data, Last: m.Last,
		}}
	case *replica.Refuse:
		to.Kind = &brokerv1.ReplicaFrame_Refuse{Refuse: &brokerv1.ReplicaRefuse{
			Term: m.Term, Version: m.Version, Round: m.Round, Need: m.Need,
		}}
	case *replica.Leave:
		to.Kind = &brokerv1.ReplicaFrame_Leave{Leave: &brokerv1.ReplicaLeave{Term: m.Term, Version: m.Version}}
	case *replica.Release:
		to.Kind = &brokerv1.ReplicaFrame_Release{Release: &brokerv1.ReplicaRelease{
			Term: m.Term, Version: m.Version, Round: m.Round,
		}}
	case *replica.Watch:
		to.Kind = &brokerv1.ReplicaFrame_Watch{Watch: &brokerv1.ReplicaWatch{Term: m.Term, Round: m.Round, Number: m.Number}}
	case *replica.Fresh:
		to.Kind = &brokerv1.ReplicaFrame_Fresh{Fresh: &brokerv1.ReplicaFresh{
			Term: m.Term, Round: m.Round, Number: m.Number, Commit: m.Commit, Age: uint64(m.Age),
		}}
	}
	return to
}

func encodeTerms(terms []replica.TermEnd) []*brokerv1.ReplicaTerm {
	all := make([]*brokerv1.ReplicaTerm, len(terms))
	for i, t := range terms {
		all[i] = &brokerv1.ReplicaTerm{Term: t.Term, Last: t.Last}
	}
	return all
}
