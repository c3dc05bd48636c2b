package bayeux

import (
	"encoding/json"
	"math"
	"strconv"
	"time"
)

// helperDepth bounds recursion where text need not have passed Decode.
const helperDepth = 1 << 10

// AckRequested reports whether the ext of a handshake asks for the ack
// extension: with literally true.
func AckRequested(ext json.RawMessage) bool {
	return string(extMember(ext, "ack")) == "true"
}

// AckBatch returns the batch that the ext of a connect acknowledges; ok is
// false if it acknowledges none.
func AckBatch(ext json.RawMessage) (batch int64, ok bool) {
	batch, err := strconv.ParseInt(string(extMember(ext, "ack")), 10, 64)
	return batch, err == nil && batch >= 0
}

// Timesync is what a client sends in ext.timesync, in milliseconds.
type Timesync struct {
	TC, Lag, Offset float64
	HasLag          bool
}

// ParseTimesync returns the ext.timesync of a message; ok is false if there is
// none that has a tc.
func ParseTimesync(ext json.RawMessage) (t Timesync, ok bool) {
	raw := extMember(ext, "timesync")
	t.TC, ok = number(extMember(raw, "tc"))
	t.Lag, t.HasLag = number(extMember(raw, "l"))
	t.Offset, _ = number(extMember(raw, "o"))
	return t, ok
}

// AppendReply appends the ext.timesync of the reply; received is when the
// request came, spent how long the answer took. It returns dst as it was if the
// client knows well enough already.
func (t Timesync) AppendReply(dst []byte, received time.Time, spent time.Duration) []byte {
	const enough = 25
	ts := received.UnixMilli()
	a := t.TC + t.Offset + t.Lag - float64(ts)
	if t.HasLag && t.Lag != 0 && math.Abs(a) < enough {
		return dst
	}
	dst = append(dst, `{"tc":`...)
	dst = strconv.AppendFloat(dst, t.TC, 'f', -1, 64)
	dst = append(dst, `,"ts":`...)
	dst = strconv.AppendInt(dst, ts, 10)
	dst = append(dst, `,"p":`...)
	dst = strconv.AppendInt(dst, spent.Milliseconds(), 10)
	if t.HasLag {
		dst = append(dst, `,"a":`...)
		dst = strconv.AppendFloat(dst, a, 'f', -1, 64)
	}
	return append(dst, '}')
}

// Positions of a replay map that are no positions.
const (
	ReplayNew      = -1 // only what is published from now on
	ReplayRetained = -2 // everything retained
)

// ReplayRequested reports whether the ext of a handshake asks for replay.
func ReplayRequested(ext json.RawMessage) bool {
	return string(extMember(ext, "replay")) == "true"
}

// ParseReplay returns the ext.replay map of a subscribe: for each channel the
// position after which messages are wanted, ReplayNew or ReplayRetained. It is
// nil if there is none. Numbers in quotes are taken, too.
func ParseReplay(ext json.RawMessage, l Limits) (map[string]int64, *Error) {
	raw := extMember(ext, "replay")
	if raw == nil || raw[0] != '{' {
		return nil, nil
	}
	most := l.withDefaults().Subscriptions
	from := map[string]int64{}
	s := scanner{in: raw, pos: 1}
	for first := true; s.next(first, '}'); first = false {
		channel := string(s.key())
		value := s.value(helperDepth)
		text, quoted := unquote(value)
		if !quoted {
			text = string(value)
		}
		position, err := strconv.ParseInt(text, 10, 64)
		if err != nil || position < ReplayRetained || len(from) == most {
			return nil, ReplayInvalid()
		}
		from[channel] = position
	}
	if s.err != "" {
		return nil, ReplayInvalid()
	}
	return from, nil
}

// extMember returns the text of one member of an object; nil if there is none,
// or it is null. Of several the last counts.
func extMember(object []byte, name string) (value []byte) {
	s := scanner{in: object}
	if s.peek() != '{' {
		return nil
	}
	s.pos++
	for first := true; s.next(first, '}'); first = false {
		key := s.key()
		v := s.value(helperDepth)
		if string(key) == name {
			value = v
		}
	}
	if s.err != "" || string(value) == "null" {
		return nil
	}
	return value
}

func number(value []byte) (float64, bool) {
	if len(value) == 0 {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(value), 64)
	return f, err == nil
}
