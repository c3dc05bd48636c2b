package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"time"
)

// peer is a running server as the reader meets it.
type peer struct {
	name string
	pid  int
	addr string
	// ask returns what a client of a channel sends first.
	ask func(channel string) string
	// ready is in the answer once the stream has begun.
	ready []byte
	// next, if there is one, returns what a client sends next, having read the
	// text of a whole answer; nil if it is none.
	next func(r *reader, text []byte) []byte
	// publish publishes data to a reader's channel, so that it goes to all of
	// its connections.
	publish func(r *reader, data []byte) error
}

// figures are what came of a rate.
type figures struct {
	perSecond float64       // deliveries
	cpu       float64       // of the server for one delivery, in microseconds
	bytes     float64       // of one delivery on the wire
	p99       time.Duration // from when a message was due
	lost      int64
}

// errBehind is the end of publishing that the server keeps from its schedule.
var errBehind = errors.New("publishing fell behind its schedule")

const (
	size   = 100             // of a message's data, in bytes
	settle = time.Second     // between connecting and publishing
	still  = 2 * time.Second // after that long without any, missing messages are lost
)

// broadcast connects clients to a peer and publishes to all of them.
func broadcast(p *peer, clients int, rate float64, warmup, length time.Duration) (figures, error) {
	r, err := newReader(p, clients)
	if err != nil {
		return figures{}, fmt.Errorf("%s: %w", p.name, err)
	}
	defer r.close()
	<-time.After(settle)
	if warmup > 0 {
		if _, err := r.burst(clients, rate, warmup); err != nil {
			return figures{}, fmt.Errorf("%s: warm-up: %w", p.name, err)
		}
	}
	f, err := r.burst(clients, rate, length)
	if err != nil {
		return figures{}, fmt.Errorf("%s: %w", p.name, err)
	}
	return f, nil
}

// burst publishes at a rate and waits for what that leads to.
func (r *reader) burst(clients int, rate float64, length time.Duration) (figures, error) {
	before, err := cpu(r.peer.pid)
	if err != nil {
		return figures{}, err
	}
	r.begin()
	began := r.clock()
	sent, err := r.publish(rate, length)
	if err != nil {
		return figures{}, err
	}
	took := max(r.clock()-began, length)
	expected := int64(sent * clients)
	for last := int64(-1); !r.wait(still, func(c *count) bool { return c.delivered >= expected }); {
		now := r.delivered()
		if now == last {
			break
		}
		last = now
	}
	after, err := cpu(r.peer.pid)
	if err != nil {
		return figures{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &r.count
	n := float64(max(c.delivered, 1))
	return figures{
		perSecond: float64(c.delivered) / took.Seconds(), cpu: float64((after - before).Microseconds()) / n,
		bytes: float64(c.bytes) / n, p99: c.percentile(0.99), lost: expected - c.delivered,
	}, nil
}

func (r *reader) delivered() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count.delivered
}

// publish publishes on a schedule that does not wait for the server.
func (r *reader) publish(rate float64, length time.Duration) (sent int, err error) {
	const most = 3 * time.Second
	began := r.clock()
	total := max(1, int(math.Round(rate*length.Seconds())))
	for i := range total {
		due := began + time.Duration(float64(i)/rate*float64(time.Second))
		if wait := due - r.clock(); wait > 0 {
			<-time.After(wait)
		} else if wait < -most {
			return i, errBehind
		}
		if err := r.peer.publish(r, appendData(nil, size, due)); err != nil {
			return i, fmt.Errorf("publishing: %w", err)
		}
	}
	return total, nil
}

// maximum looks for the highest rate of a broadcast at which 1 % of deliveries
// at most take longer than a limit and none is lost: it doubles the rate until
// it is too high, twice, and then closes in. Every try has clients and a
// channel of its own.
func maximum(p *peer, clients int, limit time.Duration) (best figures, err error) {
	const first, near = 8000, 1.08
	good, bad := 0.0, math.Inf(1)
	for rate, tries := first/float64(clients), 0; bad > near*good && bad > 1; {
		f, err := broadcast(p, clients, rate, 0, 4*time.Second)
		if err != nil && !errors.Is(err, errBehind) {
			return best, err
		}
		tries++
		ok := err == nil && f.lost == 0 && f.p99 <= limit
		fmt.Fprintf(os.Stderr, "%s at %.0f messages/s: %.0f deliveries/s, p99 %v, %d lost\n", p.name, rate, f.perSecond, f.p99, f.lost)
		switch {
		case ok:
			best, good = f, rate
		case tries < 2:
			continue // something else on the machine can do that once
		default:
			bad = rate
		}
		tries = 0
		if math.IsInf(bad, 1) {
			rate *= 2
		} else {
			rate = math.Sqrt(max(good, bad/4) * bad)
		}
	}
	return best, nil
}

// poster posts over one connection that is kept.
type poster struct {
	addr string
	conn net.Conn
	in   *bufio.Reader
}

func (p *poster) post(path string, body []byte) error {
	if p.conn == nil {
		conn, err := net.Dial("tcp", p.addr)
		if err != nil {
			return err
		}
		p.conn, p.in = conn, bufio.NewReader(conn)
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, p.addr, len(body), body)
	if _, err := p.conn.Write(out.Bytes()); err != nil {
		return err
	}
	resp, err := http.ReadResponse(p.in, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, text)
	}
	return err
}
