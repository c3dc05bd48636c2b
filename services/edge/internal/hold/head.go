package hold

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// heads renders the heads of responses on connections that are parked.
type heads struct {
	buffers sync.Pool
	date    atomic.Pointer[date]

	mu     sync.Mutex // leaf
	common map[string]*string
}

// date is the value of the header of that name in one second.
type date struct {
	second int64
	text   string
}

// A head is shared by all connections that have the same, as long as it is one
// of these many, and not larger than that.
const (
	commonHeads = 256
	commonBytes = 1 << 10
)

func newHeads() *heads {
	return &heads{
		buffers: sync.Pool{New: func() any { return new(bytes.Buffer) }},
		common:  map[string]*string{},
	}
}

// fields renders header fields but for those named.
func (h *heads) fields(header http.Header, but map[string]bool) *string {
	b, _ := h.buffers.Get().(*bytes.Buffer)
	defer h.buffers.Put(b)
	b.Reset()
	_ = header.WriteSubset(b, but) // a buffer takes everything
	if _, own := header["Set-Cookie"]; own || b.Len() > commonBytes {
		s := b.String()
		return &s
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.common[string(b.Bytes())]; s != nil {
		return s
	}
	if len(h.common) >= commonHeads {
		clear(h.common)
	}
	s := b.String()
	h.common[s] = &s
	return &s
}

// byEngine are the fields that are not the handler's to set; for an exchange
// the reply names the type as well.
func byEngine() (stream, exchange map[string]bool) {
	stream = map[string]bool{"Connection": true, "Content-Length": true, "Date": true, "Transfer-Encoding": true}
	exchange = map[string]bool{"Content-Type": true}
	for name := range stream {
		exchange[name] = true
	}
	return stream, exchange
}

// today is the value of Date.
func (h *heads) today(now time.Time) string {
	second := now.Unix()
	if d := h.date.Load(); d != nil && d.second == second {
		return d.text
	}
	d := &date{second, now.UTC().Format(http.TimeFormat)}
	h.date.Store(d)
	return d.text
}

// start appends the status line and the date.
func (h *heads) start(b []byte, old bool, status int, now time.Time) []byte {
	proto := "HTTP/1.1 "
	if old {
		proto = "HTTP/1.0 "
	}
	b = append(b, proto...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	b = append(b, http.StatusText(status)...)
	b = append(b, "\r\nDate: "...)
	b = append(b, h.today(now)...)
	return append(b, "\r\n"...)
}

// stream appends the head of a stream. Its connection ends with it.
func (h *heads) stream(b []byte, old bool, fields string, now time.Time) []byte {
	b = h.start(b, old, http.StatusOK, now)
	b = append(b, fields...)
	if !old {
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	return append(b, "Connection: close\r\n\r\n"...)
}

// lastChunk ends a stream.
const lastChunk = "0\r\n\r\n"

// reply appends a whole response. fields are those the handler set; the reply's
// own take their place.
func (h *heads) reply(b []byte, old bool, fields string, r Reply, now time.Time) []byte {
	b = h.start(b, old, r.Status, now)
	if len(r.Header) == 0 {
		b = append(b, fields...)
	} else {
		b = appendFields(b, fields, r.Header)
	}
	if bodyAllowed(r.Status) {
		b = append(b, "Content-Type: "...)
		b = append(b, r.Type...)
		b = append(b, "\r\nContent-Length: "...)
		b = strconv.AppendInt(b, int64(len(r.Body)), 10)
		b = append(b, "\r\n"...)
	}
	if r.Close {
		b = append(b, "Connection: close\r\n"...)
	}
	b = append(b, "\r\n"...)
	if bodyAllowed(r.Status) {
		b = append(b, r.Body...)
	}
	return b
}

// appendFields appends rendered fields and more, which win.
func appendFields(b []byte, fields string, more http.Header) []byte {
	for line := range strings.Lines(fields) {
		name, _, _ := strings.Cut(line, ":")
		if _, again := more[name]; !again {
			b = append(b, line...)
		}
	}
	w := bytes.NewBuffer(b)
	_ = more.Write(w) // a buffer takes everything
	return w.Bytes()
}

func bodyAllowed(status int) bool {
	return status >= http.StatusOK && status != http.StatusNoContent && status != http.StatusNotModified
}
