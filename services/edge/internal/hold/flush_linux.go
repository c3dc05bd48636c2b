package hold

import "time"

// flush writes what waits on a parked connection, as far as it goes. Only the
// flushing goroutine of the worker calls it.
func (c *conn) flush() {
	c.pending.Store(false)
	c.mu.Lock()
	switch c.state {
	case exchange:
		c.flushExchange()
	case streaming, upgraded:
		c.flushStream()
	default:
		c.mu.Unlock()
	}
}

// flushExchange writes the answer, if it has come. It takes the lock over.
func (c *conn) flushExchange() {
	x := c.exchange
	if x == nil {
		c.mu.Unlock()
		return
	}
	var b []byte
	if c.answered {
		b = c.extra.out
	} else {
		c.mu.Unlock()
		a, ok := x.taken()
		if !ok {
			return
		}
		reply := x.replier.Reply(a)
		c.mu.Lock()
		if c.state != exchange {
			c.mu.Unlock()
			return
		}
		b = c.answerLocked(reply)
	}
	n, err := c.writeLocked(b)
	switch {
	case err != nil:
		end := c.cutLocked(c.whyLocked(err))
		c.mu.Unlock()
		end.tell()
	case n < len(b):
		c.keepLocked(b[n:])
		c.waitWriteLocked(n > 0)
		c.mu.Unlock()
	default:
		c.exchange, c.fields, c.answered = nil, nil, false
		c.dropLocked()
		c.writeBy.Store(0)
		c.mu.Unlock()
		x.over(true) // before a next request can be served
		c.mu.Lock()
		defer c.mu.Unlock()
		c.answeredLocked()
	}
}

// answerLocked begins the answer and returns all of it.
func (c *conn) answerLocked(reply Reply) []byte {
	c.last = c.last || reply.Close || c.door.closed.Load()
	reply.Close = c.last
	c.answered = true
	return c.worker.engine.heads.reply(c.worker.scratch[:0], c.old, *c.fields, reply, time.Now())
}

// answeredLocked goes on behind a whole answer.
func (c *conn) answeredLocked() {
	switch {
	case c.state != exchange:
	case c.last:
		c.lingerLocked()
	default:
		c.restLocked()
	}
}

// keepLocked keeps what could not be written.
func (c *conn) keepLocked(b []byte) {
	if c.extra == nil {
		c.extra = &extra{}
	}
	x := c.extra
	if len(x.out) == 0 || len(b) == 0 || &x.out[len(x.out)-1] != &b[len(b)-1] {
		b = append([]byte(nil), b...) // it is in the worker's scratch
	}
	x.out = b
}

// dropLocked is called when what was kept is written.
func (c *conn) dropLocked() {
	if x := c.extra; x != nil {
		if x.out = nil; x.early == nil {
			c.extra = nil
		}
	}
}

// flushStream writes frames. It takes the lock over.
func (c *conn) flushStream() {
	s, bytes := c.stream, view(wire)
	if c.old {
		bytes = payload
	}
	if !c.writable && !s.wasCut() {
		c.waitWriteLocked(false)
		c.mu.Unlock()
		return
	}
	scratch := c.worker.scratch[:0]
	if c.extra != nil {
		scratch = append(scratch, c.extra.out...)
	} else if c.fields != nil {
		scratch = c.worker.engine.heads.stream(scratch, c.old, *c.fields, time.Now())
	}
	before := len(scratch)
	b, next := s.gather(scratch, bytes)
	if next == afterCut {
		end := c.closeLocked()
		c.mu.Unlock()
		end.tell()
		return
	}
	frames := len(b) - before
	if next == afterEnd && c.chunkedLocked() {
		b = append(b, lastChunk...)
	}
	n, err := c.writeLocked(b)
	if err != nil {
		end := c.cutLocked(c.whyLocked(err))
		c.mu.Unlock()
		end.tell()
		return
	}
	writable := c.wroteLocked(s, b, n, before, frames, bytes)
	whole := n == len(b)
	if whole && next == afterEnd {
		c.lingerLocked()
	}
	c.mu.Unlock()
	switch {
	case whole && next == afterEnd:
		s.over(true)
	case whole && next == afterMore:
		c.wake() // behind the others
	}
	if writable {
		s.owner.Writable(s.number)
	}
}

func (c *conn) chunkedLocked() bool { return c.state == streaming && !c.old && !c.last }

// wroteLocked books n bytes of b: what was kept or the head, frames, and
// perhaps the last chunk.
func (c *conn) wroteLocked(s *Stream, b []byte, n, before, frames int, bytes view) (writable bool) {
	if through := min(max(n-before, 0), frames); through > 0 {
		writable = s.wrote(through, bytes)
	}
	c.fields = nil
	switch {
	case n < before:
		c.keepLocked(b[n:before])
	case n < len(b) && n >= before+frames:
		c.last = true // the last chunk is not made again
		c.keepLocked(b[n:])
	default:
		c.dropLocked()
	}
	if n < len(b) {
		c.waitWriteLocked(n > 0)
	} else if c.writeBy.Load() != 0 {
		c.writeBy.Store(0)
	}
	return writable
}
