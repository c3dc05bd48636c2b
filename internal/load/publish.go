package load

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// publishAttempts is how often a message is sent, always with one key, so
	// that the server takes it once.
	publishAttempts = 3
	publishTimeout  = 15 * time.Second
	// patience is how far behind its schedule a phase may end.
	patience = 3 * time.Second
)

// publishers send messages, each those of some channels, so that a channel's
// messages keep their order.
type publishers struct {
	door  *door // of the clients, for the names of channels
	run   string
	edge  bool // through the public door
	host  string
	path  string
	addr  netip.AddrPort
	tls   *tls.Config
	size  int
	clock func() time.Duration

	each []*publisher
	next []uint32 // the last number of each channel
}

// published is what came of a phase.
type published struct {
	messages   int   // accepted
	deliveries int64 // that these should lead to
	faults     int
	fault      error         // the first
	behind     time.Duration // the most that a message was sent after it was due
	accepted   *hdrhistogram.Histogram
}

func (p *published) fail(err error) {
	p.faults++
	if p.fault == nil {
		p.fault = err
	}
}

func newPublishers(p publishers, n, channels int) *publishers {
	for i := range min(n, channels) {
		p.each = append(p.each, &publisher{all: &p, number: i})
	}
	p.next = make([]uint32, channels)
	return &p
}

func (p *publishers) close() {
	for _, one := range p.each {
		one.close()
	}
}

// publish sends the messages of a schedule, over all channels in turn.
// subscribers are how many each channel has.
func (p *publishers) publish(ctx context.Context, s schedule, subscribers []int) published {
	sum := published{accepted: newHistogram()}
	parts := make([]published, len(p.each))
	var all sync.WaitGroup
	for i, one := range p.each {
		all.Go(func() { parts[i] = one.publish(ctx, s, subscribers) })
	}
	all.Wait()
	for i := range parts {
		sum.messages += parts[i].messages
		sum.deliveries += parts[i].deliveries
		sum.faults += parts[i].faults
		sum.behind = max(sum.behind, parts[i].behind)
		sum.accepted.Merge(parts[i].accepted)
		if sum.fault == nil {
			sum.fault = parts[i].fault
		}
	}
	return sum
}

// publisher has one connection, and one message under way.
type publisher struct {
	all      *publishers
	number   int
	conn     net.Conn
	response response
	in, out  []byte
	data     []byte
}

func (p *publisher) publish(ctx context.Context, s schedule, subscribers []int) published {
	sum := published{accepted: newHistogram()}
	all, channels := p.all, len(subscribers)
	for i := range s.total {
		channel := i % channels
		if channel%len(all.each) != p.number {
			continue
		}
		due := s.due(i)
		if !waitUntil(ctx, all.clock, due) {
			return sum
		}
		began := all.clock()
		if began > s.end()+patience {
			sum.fail(fmt.Errorf("publishing fell %v behind its schedule", (began - due).Round(time.Millisecond)))
			return sum
		}
		sum.behind = max(sum.behind, began-due)
		all.next[channel]++
		if err := p.send(ctx, stamp{due: due, seq: all.next[channel], channel: uint16(channel)}); err != nil {
			sum.fail(err)
			continue
		}
		record(sum.accepted, all.clock()-began)
		sum.messages++
		sum.deliveries += int64(subscribers[channel])
	}
	return sum
}

// send sends one message until it is accepted.
func (p *publisher) send(ctx context.Context, s stamp) error {
	p.compose(s)
	var err error
	for range publishAttempts {
		if err = p.exchange(ctx); err == nil {
			return nil
		}
		p.close()
		if !waitUntil(ctx, p.all.clock, p.all.clock()+retryAfter) {
			break
		}
	}
	return fmt.Errorf("publishing: %w", err)
}

func (p *publisher) compose(s stamp) {
	a := p.all
	key := fmt.Sprintf("%s-%d-%d", a.run, s.channel, s.seq)
	target, field := "/v1/publish", ""
	p.data = p.data[:0]
	if a.edge {
		target, field = "/channels"+a.door.name(s.channel), "\r\nIdempotency-Key: "+key
		p.data = appendData(p.data, a.size, s)
	} else {
		p.data = append(append(p.data, `{"channel":"`...), a.door.name(s.channel)...)
		p.data = appendData(append(p.data, `","data":`...), a.size, s)
		p.data = append(append(append(p.data, `,"idempotencyKey":"`...), key...), `"}`...)
	}
	p.out = fmt.Appendf(p.out[:0], "POST %s%s HTTP/1.1\r\nHost: %s%s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
		a.path, target, a.host, field, len(p.data))
	p.out = append(p.out, p.data...)
}

// exchange sends the composed request and reads its response.
func (p *publisher) exchange(ctx context.Context) error {
	if p.conn == nil {
		if err := p.dial(ctx); err != nil {
			return err
		}
	}
	if err := p.conn.SetDeadline(time.Now().Add(publishTimeout)); err != nil {
		return err
	}
	if _, err := p.conn.Write(p.out); err != nil {
		return err
	}
	var text pieces
	for {
		n, err := p.conn.Read(p.in)
		if err != nil {
			return err
		}
		for b := p.in[:n]; len(b) > 0; {
			body, rest, done, err := p.response.feed(b)
			if err != nil {
				return err
			}
			b = rest
			whole, err := text.whole(body, done)
			if err != nil {
				return err
			}
			if done {
				return p.accept(whole)
			}
		}
	}
}

func (p *publisher) accept(body []byte) error {
	if p.response.status != http.StatusOK {
		return refused(p.response.status, body)
	}
	if p.response.closes {
		p.close()
	}
	if !json.Valid(body) {
		return fmt.Errorf("the answer is no JSON: %s", clip(body))
	}
	return nil
}

func (p *publisher) dial(ctx context.Context) error {
	if p.in == nil {
		p.in = make([]byte, 16<<10)
	}
	p.response = response{}
	d := net.Dialer{Timeout: setupTimeout}
	var err error
	if p.all.tls == nil {
		p.conn, err = d.DialContext(ctx, "tcp", p.all.addr.String())
	} else {
		p.conn, err = (&tls.Dialer{NetDialer: &d, Config: p.all.tls}).DialContext(ctx, "tcp", p.all.addr.String())
	}
	if err != nil {
		p.conn = nil // not a nil connection in an interface
	}
	return err
}

func (p *publisher) close() {
	if p.conn != nil {
		_ = p.conn.Close()
		p.conn = nil
	}
}

// waitUntil waits, and reports whether ctx still goes on.
func waitUntil(ctx context.Context, clock func() time.Duration, due time.Duration) bool {
	for {
		left := due - clock()
		switch {
		case ctx.Err() != nil:
			return false
		case left <= 0:
			return true
		case left < precise:
			nap(left)
			continue
		}
		timer := time.NewTimer(left - precise)
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-timer.C:
		}
	}
}
