package bayeux

import (
	"fmt"
	"unicode/utf8"
)

// Reasons of a DecodeError. They are names of the contract's ErrorReason.
const (
	ReasonJSONInvalid     = "JSON_INVALID"      // HTTP 400
	ReasonBatchTooLarge   = "BATCH_TOO_LARGE"   // HTTP 400
	ReasonMessageTooLarge = "MESSAGE_TOO_LARGE" // HTTP 413
)

// DecodeError says why a document was refused.
type DecodeError struct {
	Reason string
	Offset int    // where, in bytes from the start of the JSON text
	Detail string // for people
}

// Error implements error.
func (e *DecodeError) Error() string {
	return fmt.Sprintf("%s at byte %d: %s", e.Reason, e.Offset, e.Detail)
}

// Decode reads an array of messages or one bare message. The error is a
// *DecodeError. The messages alias body, which must not change while they are
// used. An empty array gives no messages and no error.
func Decode(body []byte, l Limits) ([]Message, error) {
	l = l.withDefaults()
	return decode(nil, body, &l)
}

func decode(dst []Message, body []byte, l *Limits) ([]Message, error) {
	if len(body) > l.Bytes {
		return nil, &DecodeError{ReasonMessageTooLarge, l.Bytes, fmt.Sprintf("more than %d bytes", l.Bytes)}
	}
	if !utf8.Valid(body) {
		return nil, &DecodeError{ReasonJSONInvalid, invalidUTF8(body), "not UTF-8"}
	}
	d := decoder{scanner: scanner{in: body}, limits: l, messages: dst}
	switch d.peek() {
	case '[':
		d.pos++
		for first := true; d.next(first, ']'); first = false {
			if len(d.messages) == l.Messages {
				return nil, &DecodeError{ReasonBatchTooLarge, d.pos, fmt.Sprintf("more than %d messages", l.Messages)}
			}
			d.message()
		}
	default:
		d.message()
	}
	d.end()
	if d.err != "" {
		return nil, &DecodeError{ReasonJSONInvalid, d.pos, d.err}
	}
	return d.messages, nil
}

// CheckValue reports whether text is exactly one JSON value in valid UTF-8 that
// nests at most depth levels. The error is a *DecodeError.
func CheckValue(text []byte, depth int) error {
	if !utf8.Valid(text) {
		return &DecodeError{ReasonJSONInvalid, invalidUTF8(text), "not UTF-8"}
	}
	s := scanner{in: text}
	s.value(depth)
	s.end()
	if s.err != "" {
		return &DecodeError{ReasonJSONInvalid, s.pos, s.err}
	}
	return nil
}

// CheckObject is CheckValue for text that must be an object.
func CheckObject(text []byte, depth int) error {
	s := scanner{in: text}
	if s.peek() != '{' {
		return &DecodeError{ReasonJSONInvalid, s.pos, "expected an object"}
	}
	return CheckValue(text, depth)
}

func invalidUTF8(text []byte) int {
	pos := 0
	for {
		r, size := utf8.DecodeRune(text[pos:])
		if r == utf8.RuneError && size <= 1 {
			return pos
		}
		pos += size
	}
}

// decoder reads the messages of one document.
type decoder struct {
	scanner
	limits   *Limits
	messages []Message
}

// message reads one message and appends it.
func (d *decoder) message() {
	if d.peek() != '{' {
		d.fail("expected a message, which is an object")
		return
	}
	d.messages = append(d.messages, Message{})
	b := builder{limits: d.limits, m: &d.messages[len(d.messages)-1]}
	if n := len(d.messages); n > 1 {
		b.previous = d.messages[n-2].ClientID
	}
	d.open(d.limits.Depth)
	for first := true; d.next(first, '}'); first = false {
		d.peek()
		start := d.pos
		key := d.key()
		if d.err != "" {
			return
		}
		if value := d.value(d.limits.Depth - 1); value != nil {
			b.member(key, value, d.in[start:d.pos:d.pos])
		}
	}
	b.finish()
}
