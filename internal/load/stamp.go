package load

import (
	"bytes"
	"time"
)

// A stamp is what a message carries for the tool: when it was due, counted from
// the start of the run, and its place in its channel. It has a fixed width and
// stands as it is in every transport, since nothing in it needs an escape.
type stamp struct {
	due     time.Duration
	seq     uint32 // from 1
	channel uint16
}

const (
	mark = "~CB" // followed by due, seq and channel in hexadecimal

	dueDigits, seqDigits, channelDigits = 12, 8, 4

	stampLen = len(mark) + dueDigits + seqDigits + channelDigits

	dataHead, dataTail = `{"s":"`, `"}`
	// minSize is the size of data with nothing but a stamp.
	minSize = len(dataHead) + stampLen + len(dataTail)
)

// appendData appends a message's data of a size, minSize at least.
func appendData(b []byte, size int, s stamp) []byte {
	b = append(append(b, dataHead...), mark...)
	b = appendHex(b, uint64(s.due), dueDigits)
	b = appendHex(b, uint64(s.seq), seqDigits)
	b = appendHex(b, uint64(s.channel), channelDigits)
	for range size - minSize {
		b = append(b, 'x')
	}
	return append(b, dataTail...)
}

func appendHex(b []byte, v uint64, digits int) []byte {
	const hex = "0123456789abcdef"
	for shift := 4 * (digits - 1); shift >= 0; shift -= 4 {
		b = append(b, hex[v>>shift&15])
	}
	return b
}

// nextStamp finds the first stamp in text; before and after are what is around
// it.
func nextStamp(text []byte) (s stamp, before, after []byte, ok bool) {
	for from := 0; ; {
		i := bytes.Index(text[from:], []byte(mark))
		if i < 0 || len(text)-from-i < stampLen {
			return stamp{}, nil, nil, false
		}
		from += i
		if s, ok = parseStamp(text[from : from+stampLen]); ok {
			return s, text[:from], text[from+stampLen:], true
		}
		from += len(mark)
	}
}

func parseStamp(b []byte) (stamp, bool) {
	b = b[len(mark):]
	due, ok1 := parseHex(b[:dueDigits])
	seq, ok2 := parseHex(b[dueDigits : dueDigits+seqDigits])
	channel, ok3 := parseHex(b[dueDigits+seqDigits:])
	return stamp{due: time.Duration(due), seq: uint32(seq), channel: uint16(channel)}, ok1 && ok2 && ok3
}

func parseHex(b []byte) (v uint64, ok bool) {
	for _, c := range b {
		d, ok := hexDigit(c)
		if !ok {
			return 0, false
		}
		v = v<<4 | uint64(d)
	}
	return v, true
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// positionBefore returns the decimal position of the plain message whose text
// up to its stamp this is, nil if there is none.
func positionBefore(before []byte) []byte {
	const field, data = `"position":`, `,"data":` + dataHead
	rest, ok := bytes.CutSuffix(before, []byte(data))
	if !ok {
		return nil
	}
	from := len(rest)
	for from > 0 && '0' <= rest[from-1] && rest[from-1] <= '9' {
		from--
	}
	if !bytes.HasSuffix(rest[:from], []byte(field)) {
		return nil
	}
	return rest[from:]
}
