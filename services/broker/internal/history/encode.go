package history

import (
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
	"unsafe"
)

// ErrEncoding says that bytes do not begin with an entry.
var ErrEncoding = errors.New("not an encoded entry")

// AppendTo appends the entry's encoding:
//
//	offset, time (8 bytes each, little endian)
//	length of the channel (uvarint), the channel
//	offset-prev (0 without prev), term (uvarints)
//	lengths of data, ext, members, session, id, key (uvarints)
//	these, one after the other
func (e *Entry) AppendTo(b []byte) []byte {
	if e.encoding != nil {
		return append(b, e.encoding...)
	}
	b = binary.LittleEndian.AppendUint64(b, e.Offset)
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Time))
	b = binary.AppendUvarint(b, uint64(len(e.Channel)))
	b = append(b, e.Channel...)
	back := uint64(0)
	if e.Prev > 0 {
		back = e.Offset - e.Prev
	}
	b = binary.AppendUvarint(b, back)
	b = binary.AppendUvarint(b, e.Term)
	for _, n := range e.lengths() {
		b = binary.AppendUvarint(b, uint64(n))
	}
	b = append(b, e.Data...)
	b = append(b, e.Ext...)
	b = append(b, e.Members...)
	b = append(b, e.Session...)
	b = append(b, e.ID...)
	return append(b, e.Key...)
}

func (e *Entry) lengths() [6]int {
	return [...]int{len(e.Data), len(e.Ext), len(e.Members), len(e.Session), len(e.ID), len(e.Key)}
}

func uvarintLen(n int) int { return (bits.Len(uint(n)|1) + 6) / 7 }

// Seal encodes the entry, once for all who will need that, and returns it with
// all its bytes in its encoding.
func (e *Entry) Seal() *Entry {
	room := numbersAt + uvarintLen(len(e.Channel)) + 2*binary.MaxVarintLen64
	for _, n := range e.lengths() {
		room += uvarintLen(n) + n
	}
	sealed := new(Entry)
	if _, err := sealed.Decode(e.AppendTo(make([]byte, 0, room+len(e.Channel)))); err != nil {
		panic("history: an entry with numbers that cannot be: " + err.Error())
	}
	return sealed
}

// Size is how many bytes the encoding takes.
func (e *Entry) Size() int {
	if e.encoding != nil {
		return len(e.encoding)
	}
	return len(e.AppendTo(nil))
}

// numbersAt is where the first uvarint of an encoding is.
const numbersAt = 16

// header is an entry's encoding up to its bytes.
type header struct {
	channel     []byte
	back, term  uint64
	lengths     [6]int // data, ext, members, session, id, key
	start, size int    // of the data, of the whole encoding
}

func (h *header) read(b []byte) error {
	if len(b) < numbersAt {
		return ErrEncoding
	}
	n, at := uvarint(b, numbersAt)
	if at > len(b) || n > uint64(len(b)-at) {
		return ErrEncoding
	}
	h.channel, at = b[at:at+int(n)], at+int(n)
	h.back, at = uvarint(b, at)
	h.term, at = uvarint(b, at)
	total := uint64(0)
	for i := range h.lengths {
		if n, at = uvarint(b, at); n > uint64(len(b)) {
			return ErrEncoding
		}
		h.lengths[i] = int(n)
		total += n
	}
	e := Encoded{b}
	if at > len(b) || total > uint64(len(b)-at) || h.back > e.Offset() || e.time() < 0 {
		return ErrEncoding
	}
	h.start, h.size = at, at+int(total)
	return nil
}

// uvarint reads the number at a place, and returns the place after it: one
// beyond the bytes if there is no number.
func uvarint(b []byte, at int) (n uint64, next int) {
	if at < len(b) && b[at] < 0x80 { // nearly always
		return uint64(b[at]), at + 1
	}
	if at < len(b) {
		if n, size := binary.Uvarint(b[at:]); size > 0 {
			return n, at + size
		}
	}
	return math.MaxUint64, len(b) + 1
}

// Decode makes the entry the sealed one that bytes begin with, and returns how
// many of them it takes.
// All that it points to are these bytes, which must not change any more.
func (e *Entry) Decode(b []byte) (size int, err error) {
	var h header
	if err := h.read(b); err != nil {
		return 0, err
	}
	h.entry(b, e)
	return h.size, nil
}

// entry reads the entry whose header was read.
func (h *header) entry(b []byte, e *Entry) {
	e.Offset, e.Term, e.Time = Encoded{b}.Offset(), h.term, Encoded{b}.time()
	e.Prev = 0
	if h.back > 0 {
		e.Prev = e.Offset - h.back
	}
	rest := b[h.start:h.size]
	next := func(i int) []byte {
		n := h.lengths[i]
		if n == 0 {
			return nil
		}
		part := rest[:n:n]
		rest = rest[n:]
		return part
	}
	e.Channel = text(h.channel)
	e.Data, e.Ext, e.Members = next(0), next(1), next(2)
	e.Session, e.ID, e.Key = text(next(3)), text(next(4)), text(next(5))
	e.encoding = b[:h.size:h.size]
}

func text(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b)) //nolint:gosec // the bytes never change, see Decode
}

// Encoded is an entry as it is retained. It may be kept, as an [Entry] may.
type Encoded struct {
	bytes []byte // begins with the entry
}

// Offset is the entry's offset.
func (e Encoded) Offset() uint64 { return binary.LittleEndian.Uint64(e.bytes) }

func (e Encoded) time() int64 { return int64(binary.LittleEndian.Uint64(e.bytes[8:])) }

// Channel is the entry's channel.
func (e Encoded) Channel() string {
	n, at := uvarint(e.bytes, numbersAt)
	return text(e.bytes[at : at+int(n)])
}

// size is how many bytes the entry takes.
func (e Encoded) size() int {
	h := e.header()
	return h.size
}

// Entry decodes the entry.
func (e Encoded) Entry() *Entry {
	decoded := new(Entry)
	e.decode(decoded)
	return decoded
}

func (e Encoded) decode(to *Entry) {
	h := e.header()
	h.entry(e.bytes, to)
}

func (e Encoded) header() header {
	var h header
	if err := h.read(e.bytes); err != nil {
		panic("history: a retained entry is damaged") // no bytes come here but by AppendTo
	}
	return h
}
