package transport

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/replica"
)

// Every message that is published takes some Appends and Acks. They are written
// and read here, field by field, instead of by way of a ReplicaFrame, which
// costs several times as much. What others may write differently is left to
// protobuf.

// The numbers of fields.
const (
	fieldSlot = 1 // of ReplicaFrame

	fieldAppend   = 7
	fieldTerm     = 1 // of ReplicaAppend
	fieldRound    = 2
	fieldJoin     = 3
	fieldPrev     = 4
	fieldEntries  = 5
	fieldCommit   = 6
	appendNumbers = 7 // room for all

	fieldAck      = 9
	fieldAckEnd   = 3 // of ReplicaAck, beside term and round
	fieldAckPiece = 4
)

// numbers are the numeric fields of a message by number; 0 is not sent.
type numbers [appendNumbers]uint64

func (n *numbers) size() (bytes int) {
	for _, v := range n {
		if v != 0 {
			bytes += 1 + protowire.SizeVarint(v)
		}
	}
	return bytes
}

func (n *numbers) append(b []byte) []byte {
	for field, v := range n {
		if v != 0 {
			b = appendNumber(b, protowire.Number(field), v)
		}
	}
	return b
}

func appendNumber(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

// begin appends a frame up to the bytes of its message.
func begin(b []byte, slot shard.Slot, kind protowire.Number, size int) []byte {
	if slot != 0 {
		b = appendNumber(b, fieldSlot, uint64(slot))
	}
	return protowire.AppendVarint(protowire.AppendTag(b, kind, protowire.BytesType), uint64(size))
}

func appendAck(b []byte, slot shard.Slot, m *replica.Ack) []byte {
	n := numbers{fieldTerm: m.Term, fieldRound: m.Round, fieldAckEnd: m.End, fieldAckPiece: uint64(m.Pieces)}
	return n.append(begin(b, slot, fieldAck, n.size()))
}

func appendAppend(b []byte, slot shard.Slot, m *replica.Append) []byte {
	n := numbers{fieldTerm: m.Term, fieldRound: m.Round, fieldPrev: m.Prev, fieldCommit: m.Commit}
	if m.Join {
		n[fieldJoin] = 1
	}
	entries := 0
	for _, e := range m.Entries {
		entries += e.Size()
	}
	size := n.size()
	if entries > 0 {
		size += 1 + protowire.SizeBytes(entries)
	}
	b = n.append(begin(b, slot, fieldAppend, size))
	if entries > 0 {
		b = protowire.AppendVarint(protowire.AppendTag(b, fieldEntries, protowire.BytesType), uint64(entries))
		for _, e := range m.Entries {
			b = e.AppendTo(b)
		}
	}
	return b
}

// readHot reads a frame as it is written here; false if it is another one.
func readHot(b []byte) (f frame, ok bool, err error) {
	field, kind, size := protowire.ConsumeTag(b)
	if size > 0 && field == fieldSlot && kind == protowire.VarintType {
		slot, taken := protowire.ConsumeVarint(b[size:])
		if taken < 0 || slot >= shard.Slots {
			return frame{}, false, nil
		}
		f.slot, b = shard.Slot(slot), b[size+taken:]
		field, kind, size = protowire.ConsumeTag(b)
	}
	if size < 0 || kind != protowire.BytesType || field != fieldAppend && field != fieldAck {
		return frame{}, false, nil
	}
	body, taken := protowire.ConsumeBytes(b[size:])
	if taken < 0 || size+taken < len(b) {
		return frame{}, false, nil
	}
	n, entries, ok := readNumbers(body)
	switch {
	case !ok || field == fieldAck && (entries != nil || n[fieldAckPiece] > math.MaxUint32):
		return frame{}, false, nil
	case field == fieldAck:
		f.message, err = newAck(n[fieldTerm], n[fieldRound], n[fieldAckEnd], n[fieldAckPiece])
	default:
		f.message, err = newAppend(replica.Append{
			Term: n[fieldTerm], Round: n[fieldRound], Join: n[fieldJoin] != 0, Prev: n[fieldPrev], Commit: n[fieldCommit],
		}, entries)
	}
	return f, true, err
}

// readNumbers reads a message of numbers and entries, in the order of their
// fields but for the entries.
func readNumbers(b []byte) (n numbers, entries []byte, ok bool) {
	for last := protowire.Number(0); len(b) > 0; {
		field, kind, size := protowire.ConsumeTag(b)
		if size < 0 {
			return numbers{}, nil, false
		}
		b = b[size:]
		switch {
		case kind == protowire.VarintType && field > last && field < appendNumbers:
			n[field], size = protowire.ConsumeVarint(b)
			last = field
		case kind == protowire.BytesType && field == fieldEntries && entries == nil:
			entries, size = protowire.ConsumeBytes(b)
		default:
			return numbers{}, nil, false
		}
		if size < 0 {
			return numbers{}, nil, false
		}
		b = b[size:]
	}
	return n, entries, n[fieldEntries] == 0
}
