package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing/synctest"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// socketClient is a browser's WebSocket.
type socketClient struct {
	w        *world
	conn     net.Conn
	protocol string
	clientID string
	id       int
	came     chan struct{} // a frame, or several
	done     chan struct{} // closed when nothing is read any more

	writing sync.Mutex

	mu     sync.Mutex
	frames [][]message // that came and were not taken
	pings  int
	silent bool          // it answers no pings
	code   ws.StatusCode // of the closing frame
	pause  chan struct{} // closed when it reads on, nil: it reads
}

// dial opens a WebSocket; header and protocols may be nil.
func (w *world) dial(header http.Header, protocols ...string) (*socketClient, error) {
	d := ws.Dialer{
		NetDial:   func(ctx context.Context, _, _ string) (net.Conn, error) { return w.doors.Dial(ctx) },
		Header:    ws.HandshakeHeaderHTTP(header),
		Protocols: protocols,
	}
	conn, early, shaken, err := d.Dial(w.t.Context(), "ws://edge.test/cometd")
	if err != nil {
		return nil, err
	}
	k := &socketClient{w: w, conn: conn, protocol: shaken.Protocol, came: make(chan struct{}, 1), done: make(chan struct{})}
	var r io.Reader = conn
	if early != nil {
		r = io.MultiReader(early, conn)
	}
	go k.read(r)
	return k, nil
}

func (w *world) socket() *socketClient {
	w.t.Helper()
	k, err := w.dial(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return k
}

func (k *socketClient) read(r io.Reader) {
	defer close(k.done)
	for {
		f, err := ws.ReadFrame(r)
		if err != nil {
			return
		}
		k.mu.Lock()
		silent := k.silent
		switch f.Header.OpCode {
		case ws.OpPing:
			k.pings++
		case ws.OpClose:
			k.code, _ = ws.ParseCloseFrameData(f.Payload)
		case ws.OpText:
			var messages []message
			if err := json.Unmarshal(f.Payload, &messages); err != nil {
				messages = []message{{"broken": string(f.Payload)}}
			}
			k.frames = append(k.frames, messages)
			select {
			case k.came <- struct{}{}:
			default:
			}
		}
		pause := k.pause
		k.mu.Unlock()
		if pause != nil {
			<-pause
		}
		switch {
		case f.Header.OpCode == ws.OpClose:
			_ = k.conn.Close()
		case f.Header.OpCode == ws.OpPing && !silent:
			k.raw(ws.OpPong, f.Payload)
		}
	}
}

// write sends messages in one frame.
func (k *socketClient) write(messages ...message) {
	k.w.t.Helper()
	for _, m := range messages {
		k.id++
		m["id"] = fmt.Sprint(k.id)
		if _, given := m["clientId"]; !given && k.clientID != "" {
			m["clientId"] = k.clientID
		}
	}
	body, _ := json.Marshal(messages)
	k.raw(ws.OpText, body)
}

func (k *socketClient) raw(op ws.OpCode, body []byte) {
	k.w.t.Helper()
	k.writing.Lock()
	defer k.writing.Unlock()
	if err := wsutil.WriteClientMessage(k.conn, op, body); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		k.w.t.Fatal(err)
	}
}

// take returns the frames that come of what was done.
func (k *socketClient) take() [][]message {
	synctest.Wait()
	return k.now()
}

// now returns the frames that have come.
func (k *socketClient) now() [][]message {
	k.mu.Lock()
	defer k.mu.Unlock()
	frames := k.frames
	k.frames = nil
	return frames
}

// ask sends messages and returns the one frame that answers them.
func (k *socketClient) ask(messages ...message) []message {
	k.w.t.Helper()
	k.write(messages...)
	frames := k.take()
	if len(frames) != 1 {
		k.w.t.Fatalf("%v: got %d frames, want 1: %v", messages, len(frames), frames)
	}
	return frames[0]
}

// events returns what has come as one event a frame, like summary.
func (k *socketClient) events() string {
	k.w.t.Helper()
	var all []message
	for _, f := range k.take() {
		if len(f) != 1 || f[0]["successful"] != nil {
			k.w.t.Fatalf("a frame is %v, want one event", f)
		}
		all = append(all, f...)
	}
	return summary(all)
}

func shakeHands(ext message) message {
	m := message{"channel": "/meta/handshake", "version": "1.0", "supportedConnectionTypes": []string{"websocket"}}
	if ext != nil {
		m["ext"] = ext
	}
	return m
}

func (k *socketClient) handshake(ext message) message {
	k.w.t.Helper()
	reply := k.ask(shakeHands(ext))[0]
	k.clientID, _ = reply["clientId"].(string)
	return reply
}

// open handshakes, subscribes, connects for the first time, and has a second
// connect held.
func (k *socketClient) open(channels ...string) *socketClient {
	k.w.t.Helper()
	k.handshake(nil)
	if len(channels) > 0 {
		k.want(k.ask(message{"channel": "/meta/subscribe", "subscription": channels}))
	}
	k.want(k.ask(onSocket()))
	k.hold()
	return k
}

// hold sends a connect that is held.
func (k *socketClient) hold() {
	k.w.t.Helper()
	k.write(onSocket())
	if frames := k.take(); len(frames) != 0 {
		k.w.t.Fatalf("a connect was not held: %v", frames)
	}
}

func onSocket() message { return message{"channel": "/meta/connect", "connectionType": "websocket"} }

// want checks that all replies say success.
func (k *socketClient) want(replies []message) {
	k.w.t.Helper()
	(&browserClient{w: k.w}).want(replies)
}

// closed waits for the end and returns the code of the closing frame, 0: there
// was none.
func (k *socketClient) closed() ws.StatusCode {
	<-k.done
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.code
}

// isOpen reports whether the socket is open.
func (k *socketClient) isOpen() bool {
	synctest.Wait()
	select {
	case <-k.done:
		return false
	default:
		return true
	}
}

func (k *socketClient) pinged() int {
	synctest.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.pings
}

// mute has it answer no more pings.
func (k *socketClient) mute() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.silent = true
}

// stopReading reads at most one more frame until readOn is called.
func (k *socketClient) stopReading() (readOn func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	pause := make(chan struct{})
	k.pause = pause
	return func() {
		k.mu.Lock()
		k.pause = nil
		k.mu.Unlock()
		close(pause)
	}
}

// leave vanishes without a word.
func (k *socketClient) leave() {
	_ = k.conn.Close()
	<-k.done
	synctest.Wait()
}

// channelsOf is the channels of messages, to compare orders.
func channelsOf(messages []message) string {
	var b bytes.Buffer
	for i, m := range messages {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprint(&b, m["channel"])
	}
	return b.String()
}
