package test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/comet-push/comet/test/internal/client"
	"github.com/comet-push/comet/test/internal/cluster"
)

// TestSlowloris opens a thousand sockets from one address that send their
// headers or bodies a byte at a time, or take their answers so: all are cut
// within 15 s, and a client beside them hardly notices.
func TestSlowloris(t *testing.T) {
	const floor = 20 * time.Millisecond // less is noise
	p := cluster.New(t, "beset", "all", "--config="+cluster.Config(t, cluster.Open))
	p.Binary = cluster.Released(t) // times are those of the released binary
	p.Start(t)
	p.Ready(t, 30*time.Second)
	large := `"` + strings.Repeat("x", 250_000) + `"`
	if status, reply := post(t, "http://"+p.HTTP+"/channels/large", "application/json", large); status != http.StatusOK {
		t.Fatalf("publish: %d %s", status, reply)
	}
	for try := 1; ; try++ {
		before, under := beset(t, p)
		t.Logf("a cycle beside them: p99 %v before, %v among them", before, under)
		if under <= max(2*before, floor) {
			return
		}
		if try == 3 { // a busy machine may be slow, but not every time
			t.Fatalf("p99 of a cycle is %v among slow sockets, %v before", under, before)
		}
	}
}

// beset attacks the process, waits until all attackers are cut, and returns
// the 99th percentile of another client's cycle before and during the attack.
func beset(t *testing.T, p *cluster.Process) (before, under time.Duration) {
	t.Helper()
	const sockets, within = 1000, 15 * time.Second
	before = cycles(t, p, 5*time.Second)
	open, err := p.Descriptors()
	if err != nil {
		t.Fatal(err)
	}
	attack, stop := context.WithCancel(t.Context())
	var attackers sync.WaitGroup
	defer attackers.Wait()
	defer stop()
	began := time.Now()
	for i := range sockets {
		kind := kinds()[i%len(kinds())]
		conn := dialSlow(t, p.HTTP)
		attackers.Go(func() {
			defer func() { _ = conn.Close() }()
			kind.attack(attack, conn)
		})
	}
	opened := time.Since(began)
	under = cycles(t, p, 11*time.Second) // until the last of them is cut
	cluster.Eventually(t, time.Until(began.Add(opened+within)), "all are cut", func() error {
		now, err := p.Descriptors()
		if err == nil && now > open+5 { // the client beside has some, too
			err = fmt.Errorf("%d descriptors, %d before", now, open)
		}
		return err
	})
	t.Logf("%d sockets opened within %v, and cut %v later", sockets,
		opened.Round(time.Millisecond), (time.Since(began) - opened).Round(time.Millisecond))
	return before, under
}

// kinds are what slow sockets do.
func kinds() []slowKind {
	return []slowKind{
		{"GET /channels/a HTTP/1.1\r\nHost: x\r\nX-Slow: ", "a"},
		{"POST /cometd HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n[", " "},
		{"GET /channels/large?transport=poll HTTP/1.1\r\nHost: x\r\n\r\n", ""},
	}
}

// slowKind sends something, and then a byte a second, or takes one.
type slowKind struct{ begin, more string }

// attack goes on until the server has cut the connection.
func (k slowKind) attack(ctx context.Context, conn net.Conn) {
	if _, err := conn.Write([]byte(k.begin)); err != nil {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		var err error
		if k.more == "" {
			_, err = conn.Read(make([]byte, 1))
		} else {
			_, err = conn.Write([]byte(k.more))
		}
		if err != nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// dialSlow connects with as small a buffer as there is.
func dialSlow(t *testing.T, address string) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: 10 * time.Second, Control: func(_, _ string, c syscall.RawConn) error {
		var set error
		err := c.Control(func(fd uintptr) {
			set = errors.Join(syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 2048),
				syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 1400))
		})
		return errors.Join(err, set)
	}}
	conn, err := d.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// cycles lets one client poll for a while, and returns the 99th percentile of
// how long a message takes to it, from the publish on.
func cycles(t *testing.T, p *cluster.Process, lasts time.Duration) time.Duration {
	t.Helper()
	const channel = "/beside"
	one := client.Named("long-poll").New(channel)
	defer one.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := one.Open(ctx, client.Server{URL: "http://" + p.HTTP}); err != nil {
		t.Fatal(err)
	}
	var took []time.Duration
	for end := time.Now().Add(lasts); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		began := time.Now()
		if status, reply := post(t, "http://"+p.HTTP+"/channels"+channel, "application/json", "1"); status != http.StatusOK {
			t.Fatalf("publish: %d %s", status, reply)
		}
		for {
			e, err := one.Next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if e.Kind == client.Message {
				break
			}
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}
