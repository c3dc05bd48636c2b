package edge

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// rover is a client with the ack extension that wanders from WebSocket to
// WebSocket and to long-polling, and breaks off what it waits for now and then.
type rover struct {
	*browserClient

	socket *socketClient // nil: long-polling
	random *rand.Rand
	acked  int
	got    []int

	refused bool // and would be at once, for ever, while time stands still
}

func (r *rover) run(ctx context.Context) {
	for ctx.Err() == nil && !r.refused {
		if r.random.IntN(4) == 0 {
			r.move()
		}
		own, stop := ctx, context.CancelFunc(func() {})
		breaks := r.random.IntN(3) == 0
		if breaks {
			own, stop = context.WithTimeout(ctx, time.Duration(r.random.Int64N(int64(50*time.Millisecond))))
		}
		m := connect()
		m["ext"] = message{"ack": r.acked}
		if r.socket == nil {
			if _, answer, err := r.post(own, m); err == nil {
				r.read(answer)
			}
		} else if !r.wait(own, m) && breaks {
			r.move()
		}
		stop()
	}
	if r.socket != nil {
		_ = r.socket.conn.Close()
	}
}

// move leaves a socket without a word, for another one or long-polling.
func (r *rover) move() {
	if r.socket != nil {
		_ = r.socket.conn.Close()
		<-r.socket.done
		r.socket = nil
	}
	if r.random.IntN(3) > 0 {
		k, err := r.w.dial(nil)
		if err != nil {
			r.w.t.Error(err)
			return
		}
		k.clientID, k.id = r.clientID, 1000*len(r.got)
		r.socket = k
	}
}

// wait sends a connect over the socket and reads until its answer.
func (r *rover) wait(ctx context.Context, m message) bool {
	r.socket.write(m)
	for {
		select {
		case <-ctx.Done():
			return false
		case <-r.socket.done:
			return false
		case <-r.socket.came:
		}
		answered := false
		for _, frame := range r.socket.now() {
			answered = r.read(frame) || answered
		}
		if answered {
			return true
		}
	}
}

// read takes an answer and reports whether it is a connect's.
func (r *rover) read(answer []message) (connect bool) {
	for _, m := range answer {
		switch n, event := m["data"].(float64); {
		case event:
			r.got = append(r.got, int(n))
		case m["channel"] == "/meta/connect":
			if m["successful"] != true {
				r.w.t.Errorf("%v", m)
				r.refused = true
			}
			connect = true
			ext, _ := m["ext"].(map[string]any)
			acked, _ := ext["ack"].(float64)
			r.acked = int(acked)
		}
	}
	return connect
}

// With the ack extension nothing is lost and nothing comes twice, however a
// session moves.
func TestTrafficOverSockets(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			inWorld(t, Config{}, func(w *world) { rove(w, seed) })
		})
	}
}

func rove(w *world, seed uint64) {
	ctx, stop := context.WithCancel(w.t.Context())
	var running sync.WaitGroup
	var rovers []*rover
	for i := range uint64(6) {
		r := &rover{browserClient: w.client(), random: rand.New(rand.NewPCG(seed, i))}
		reply := r.send(shakeHands(message{"ack": true}))[0]
		r.clientID, _ = reply["clientId"].(string)
		r.want(r.send(message{"channel": "/meta/subscribe", "subscription": "/a"}))
		rovers = append(rovers, r)
		running.Go(func() { r.run(ctx) })
	}
	const published = 300
	random := rand.New(rand.NewPCG(seed, 99))
	for i := range published {
		w.broker.publish("/a", fmt.Sprint(i))
		if random.IntN(3) == 0 {
			time.Sleep(time.Duration(random.Int64N(int64(20 * time.Millisecond))))
		}
	}
	time.Sleep(time.Minute)
	stop()
	running.Wait()
	synctest.Wait()
	for i, r := range rovers {
		ok := len(r.got) == published
		for n, got := range r.got {
			ok = ok && n == got
		}
		if !ok {
			w.t.Errorf("client %d got %d messages: %v", i, len(r.got), r.got)
		}
	}
	w.wantQuiet()
	if n := w.value("comet_edge_sockets"); n != 0 {
		w.t.Errorf("%v sockets are open", n)
	}
}
