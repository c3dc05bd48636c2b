package load

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
)

// maxHead bounds the head of a response.
const maxHead = 16 << 10

// response reads HTTP/1.1 responses, one behind the other, from bytes as they
// arrive. It keeps none of them but an unfinished head.
type response struct {
	status int
	// closes says that the server closes the connection behind the response.
	closes bool
	// cookies are those the response set, in the form of a request's header.
	cookies string

	state   responseState
	chunked bool
	left    int64 // of the body, or of the chunk
	digits  int   // of the chunk's size so far
	head    []byte
}

type responseState uint8

const (
	inHead responseState = iota
	inBody
	inRest // a body that ends with the connection
	inSize // the line before a chunk
	inChunk
	inChunkEnd
	inTrailer
	atLineStart // of a trailer
)

// feed takes bytes and returns a piece of the body in them, and what is behind
// it, to be fed next. done says that the response is complete: the next byte
// begins another.
func (r *response) feed(b []byte) (body, rest []byte, done bool, err error) {
	for len(b) > 0 {
		switch r.state {
		case inHead:
			b, err = r.readHead(b)
			switch {
			case err != nil:
				return nil, nil, false, err
			case r.state == inHead && r.head == nil: // complete, without a body
				return nil, b, true, nil
			}
		case inRest:
			return b, nil, false, nil
		case inBody, inChunk:
			n := int(min(int64(len(b)), r.left))
			r.left -= int64(n)
			if r.left > 0 {
				return b[:n], nil, false, nil
			}
			if r.state == inBody {
				r.state = inHead
				return b[:n], b[n:], true, nil
			}
			r.state = inChunkEnd
			return b[:n], b[n:], false, nil
		default:
			b, done, err = r.frame(b)
			if done || err != nil {
				return nil, b, done, err
			}
		}
	}
	return nil, nil, false, nil
}

// frame takes what stands around chunks.
func (r *response) frame(b []byte) (rest []byte, done bool, err error) {
	switch r.state {
	case inSize:
		return r.readSize(b)
	case inChunkEnd:
		if b[0] == '\n' {
			r.expectSize()
		} else if b[0] != '\r' {
			return nil, false, errors.New("a chunk is longer than its size says")
		}
		return b[1:], false, nil
	default:
		if b[0] == '\n' {
			if r.state == atLineStart {
				r.state = inHead
				return b[1:], true, nil
			}
			r.state = atLineStart
		} else if b[0] != '\r' {
			r.state = inTrailer
		}
		return b[1:], false, nil
	}
}

func (r *response) expectSize() { r.state, r.left, r.digits = inSize, 0, 0 }

// readSize takes the line before a chunk; left is what it says so far.
func (r *response) readSize(b []byte) (rest []byte, done bool, err error) {
	for i, c := range b {
		d, hex := hexDigit(c)
		switch {
		case c == '\n':
			if r.digits == 0 {
				return nil, false, errors.New("a chunk has no size")
			}
			r.state = inChunk
			if r.left == 0 {
				r.state = atLineStart
			}
			return b[i+1:], false, nil
		case r.digits < 0: // an extension
		case hex:
			r.left = r.left<<4 | int64(d)
			if r.digits++; r.left > math.MaxInt32 {
				return nil, false, errors.New("a chunk is over 2 GiB")
			}
		case r.digits > 0 && (c == ';' || c == '\r' || c == ' '):
			r.digits = -1
		default:
			return nil, false, fmt.Errorf("a chunk's size has a byte %#x", c)
		}
	}
	return nil, false, nil
}

// readHead takes a head, or a part of one, and returns what is behind it.
func (r *response) readHead(b []byte) (rest []byte, err error) {
	head := b
	if r.head != nil {
		r.head = append(r.head, b...)
		head = r.head
	}
	end := bytes.Index(head, []byte("\r\n\r\n"))
	if end > maxHead || end < 0 && len(head) > maxHead {
		return nil, fmt.Errorf("a response's head is over %d bytes", maxHead)
	}
	if end < 0 {
		if r.head == nil {
			r.head = append(make([]byte, 0, len(b)+1), b...)
		}
		return nil, nil
	}
	end += len("\r\n\r\n")
	rest = b[len(b)-(len(head)-end):]
	err = r.parse(head[:end-len("\r\n")])
	r.head = nil
	if err == nil && r.status >= 100 && r.status < 200 && r.status != http.StatusSwitchingProtocols {
		if len(rest) == 0 {
			r.head = []byte{} // an interim response completes nothing
			return nil, nil
		}
		return r.readHead(rest)
	}
	return rest, err
}

// parse reads a whole head and decides on the body.
func (r *response) parse(head []byte) error {
	line, fields, _ := bytes.Cut(head, []byte("\r\n"))
	if !bytes.HasPrefix(line, []byte("HTTP/1.")) || len(line) < len("HTTP/1.1 200") {
		return fmt.Errorf("the server does not speak HTTP/1.1: %.40q", line)
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil {
		return fmt.Errorf("a response begins with %.40q", line)
	}
	*r = response{status: status, closes: line[7] == '0', head: r.head, left: -1}
	for len(fields) > 0 {
		line, fields, _ = bytes.Cut(fields, []byte("\r\n"))
		name, value, _ := bytes.Cut(line, []byte(":"))
		if err := r.field(name, bytes.TrimSpace(value)); err != nil {
			return err
		}
	}
	switch {
	case status < 200, status == http.StatusNoContent, status == http.StatusNotModified:
		r.state = inHead
	case r.chunked:
		r.expectSize()
	case r.left == 0:
		r.state = inHead
	case r.left > 0:
		r.state = inBody
	default:
		r.state, r.closes = inRest, true
	}
	return nil
}

func (r *response) field(name, value []byte) error {
	switch {
	case is(name, "Content-Length"):
		n, err := strconv.ParseInt(string(value), 10, 64)
		if err != nil || n < 0 {
			return fmt.Errorf("a response has the length %q", value)
		}
		r.left = n
	case is(name, "Transfer-Encoding"):
		r.chunked = is(value, "chunked")
	case is(name, "Connection"):
		r.closes = is(value, "close")
	case is(name, "Set-Cookie"):
		pair, _, _ := bytes.Cut(value, []byte(";"))
		if r.cookies != "" {
			r.cookies += "; "
		}
		r.cookies += string(pair)
	}
	return nil
}

func is(b []byte, name string) bool {
	return len(b) == len(name) && bytes.EqualFold(b, []byte(name))
}
