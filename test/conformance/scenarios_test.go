package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/comet-push/comet/test/internal/client"
)

// delivery: what is published arrives, byte for byte, on every channel asked
// for and on no other.
func delivery(t *testing.T, s *site, tr client.Transport) {
	root := channel(t, "/delivery")
	c := tr.New(root+"/a", root+"/b/**", root+"/c")
	t.Cleanup(c.Close)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.Open(ctx, s.doors[0]); err != nil {
		t.Fatal(err)
	}
	for i, data := range []string{
		`null`, `0`, `""`, `false`, `[]`, `{}`, `-0.5`, `1E+2`, `"\u0041\/\ud83d\ude00"`,
		`{"z":9007199254740993,"a":-9223372036854775808,"10":18446744073709551615}`,
		`"åéîøü Ελληνικά 中文 😀 </script><!-- ]]> & \u2028 ` + "\u2028\u2029" + `"`,
		`{"__proto__":{"a":1},"b":["__proto__"]}`, `"--comet\r\n--comet--"`, "{\n\"lines\" :\r\n[1,\n2]}", `"id: 7\n\nevent: x"`,
		`"` + strings.Repeat("0123456789abcdef", 10_000) + `"`,
	} {
		to := root + []string{"/a", "/b/x", "/b/y/z", "/c"}[i%4]
		if _, err := s.publish(root+"/b", `"not asked for"`); err != nil {
			t.Fatal(err)
		}
		if _, err := s.publish(to, data); err != nil {
			t.Fatal(err)
		}
		e := nextMessage(ctx, t, c)
		if e.Channel != to || !same(tr, string(e.Data), data) {
			t.Errorf("published %.200q to %s, got %.200q on %s", data, to, e.Data, e.Channel)
		}
	}
}

// nextMessage skips what is no message.
func nextMessage(ctx context.Context, t *testing.T, c *client.Client) client.Event {
	t.Helper()
	for {
		e, err := c.Next(ctx)
		if err != nil {
			t.Fatalf("no message: %v", err)
		}
		if e.Kind == client.Message {
			return e
		}
		if e.Kind == client.Resync || e.Kind == client.End {
			t.Fatalf("%+v where a message was due", e)
		}
	}
}

// same compares data byte for byte, as far as a transport keeps bytes: line
// breaks between tokens may become spaces, and scripts have escapes.
func same(tr client.Transport, got, want string) bool {
	if tr.Script {
		var g, w any
		return json.Unmarshal([]byte(got), &g) == nil && json.Unmarshal([]byte(want), &w) == nil && reflect.DeepEqual(g, w)
	}
	spaces := strings.NewReplacer("\n", " ", "\r", " ")
	return spaces.Replace(got) == spaces.Replace(want)
}

// order: what three publishers send at once comes in the order of the log, and
// what each sent in the order it was sent.
func order(t *testing.T, s *site, tr client.Transport) {
	const publishers, each = 3, 50
	name := channel(t, "/order")
	c := tr.New(name)
	t.Cleanup(c.Close)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.Open(ctx, s.doors[0]); err != nil {
		t.Fatal(err)
	}
	var publishing sync.WaitGroup
	for p := range publishers {
		publishing.Go(func() {
			for n := range each {
				if _, err := s.publish(name, fmt.Sprintf(`[%d,%d]`, p, n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var got []string
	var next [publishers]int
	position := uint64(0)
	for range publishers * each {
		e := nextMessage(ctx, t, c)
		var from [2]int
		if err := json.Unmarshal(e.Data, &from); err != nil {
			t.Fatal(err)
		}
		if from[1] != next[from[0]] {
			t.Errorf("message %d of publisher %d came where %d was due", from[1], from[0], next[from[0]])
		}
		next[from[0]]++
		if e.Position <= position {
			t.Errorf("position %d after %d", e.Position, position)
		}
		position = e.Position
		got = append(got, string(e.Data))
	}
	publishing.Wait()
	if want := s.history(t, name); !slices.Equal(got, want) {
		t.Errorf("order %v, history %v", got, want)
	}
}

// resume: a client whose connection is lost again and again, under traffic,
// misses nothing, whichever edge it comes back to.
func resume(t *testing.T, s *site, tr client.Transport) {
	const messages, cuts = 80, 4
	l := newLedger(t, tr, channel(t, "/resume"))
	l.open(s.doors[0])
	background(t, func() error {
		for n := range messages {
			if _, err := s.publish(l.channel, numbered(n, 100)); err != nil {
				return err
			}
			time.Sleep(5 * time.Millisecond)
		}
		return nil
	})
	for cut := range cuts {
		l.until((cut + 1) * messages / (cuts + 2))
		l.client.Cut()
		if cut%2 == 1 {
			time.Sleep(50 * time.Millisecond) // some are published meanwhile
		}
		l.open(s.doors[(cut+1)%len(s.doors)])
	}
	l.until(messages)
}

// resync: who was away for longer than history goes back is told so, gets no
// part of what is left of it, and then everything from there on.
func resync(t *testing.T, s *site, tr client.Transport) {
	const last = 60                             // edges remember some, too
	l := newLedger(t, tr, channel(t, "/small")) // retains 3
	l.open(s.doors[0])
	number := func(from, to int) {
		t.Helper()
		if err := s.number(l.channel, from, to, 0); err != nil {
			t.Fatal(err)
		}
	}
	number(0, 2)
	l.until(2)
	l.client.Cut()
	l.client.Forget() // a Bayeux session would have kept them
	number(2, last-1)
	l.open(s.doors[len(s.doors)-1])
	l.untilResync()
	number(last-1, last)
	l.until(last)
	if tr.Bayeux {
		return
	}
	all := ledgerFrom(t, tr, "earliest", l.channel, last-3) // what is retained is no loss
	all.open(s.doors[0])
	all.until(last)
	none := ledgerFrom(t, tr, "0", l.channel, last) // the position 0 is always too old
	none.open(s.doors[0])
	none.untilResync()
	number(last, last+1)
	none.until(last + 1)
	all.until(last + 1)
	if all.resyncs+l.resyncs+none.resyncs != 2 {
		t.Errorf("%d resyncs since earliest, %d after a loss, %d since 0; want 0, 1, 1", all.resyncs, l.resyncs, none.resyncs)
	}
}

// heartbeat: a quiet connection gives signs of life, which say how far the
// client is complete. Over a Bayeux WebSocket they are answers to connects, in
// place of pings.
func heartbeat(t *testing.T, s *site, tr client.Transport) {
	l := newLedger(t, tr, channel(t, "/heartbeat"))
	l.open(s.doors[0])
	if err := s.number(l.channel, 0, 1, 0); err != nil {
		t.Fatal(err)
	}
	l.until(1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	beats, pings := 0, 0
	for beats < 2 || tr.Socket && !tr.Bayeux && pings < 2 {
		e, err := l.client.Next(ctx)
		if err != nil {
			t.Fatalf("%d heartbeats and %d pings in 10s, want 2: %v", beats, pings, err)
		}
		switch {
		case e.Kind == client.Heartbeat && e.Reason == client.Ping:
			pings++
		case e.Kind == client.Heartbeat:
			if _, err := strconv.ParseUint(e.Cursor, 10, 64); err != nil && !tr.Bayeux {
				t.Errorf("a heartbeat whose cursor is %q", e.Cursor)
			}
			beats++
		default:
			t.Errorf("%+v on a quiet connection", e)
		}
	}
	l.client.Cut()
	if err := s.number(l.channel, 1, 2, 0); err != nil {
		t.Fatal(err)
	}
	l.open(s.doors[len(s.doors)-1])
	l.until(2)
}

// slow: a client that stops reading under load is cut, or told what it missed;
// others notice nothing; back at work, it misses nothing without a word.
func slow(t *testing.T, s *site, tr client.Transport) {
	const size = 100_000
	messages := 16 + s.between/size
	name := channel(t, "/slow")
	lazy, witness := newLedger(t, tr, name), newLedger(t, tr, name)
	lazy.client.SmallBuffers = true
	lazy.open(s.doors[0])
	witness.open(s.doors[0])
	witness.follow(s, messages, size)

	if err := s.number(name, messages, messages+1, 0); err != nil {
		t.Fatal(err)
	}
	cuts := 0
	for !lazy.takeUntil(messages + 1) {
		if lazy.end != nil && lazy.end.Reason != "slow" {
			t.Errorf("cut with %+v", lazy.end)
		}
		if cuts++; cuts > 10 {
			t.Fatalf("cut %d times while reading as fast as it can; last: %v", cuts, lazy.err)
		}
		lazy.open(s.doors[0])
	}
	t.Logf("%s: %d cuts, %d resyncs, %d reloads", tr.Name, cuts, lazy.resyncs, lazy.reloads)
	if tr.Stream && cuts+lazy.resyncs+lazy.reloads == 0 {
		t.Errorf("the server kept %d bytes for a client that read nothing", messages*size)
	}
}

// vanish: a client resets its connection while the server writes to it.
func vanish(t *testing.T, s *site, tr client.Transport) {
	const messages, size = 10, 100_000
	name := channel(t, "/vanish")
	l, witness := newLedger(t, tr, name), newLedger(t, tr, name)
	l.client.SmallBuffers = true
	l.open(s.doors[0])
	witness.open(s.doors[0])
	cut := time.AfterFunc(100*time.Millisecond, l.client.Cut) // a write is under way
	defer cut.Stop()
	witness.follow(s, messages, size)
	l.untilEnd()
	l.client.SmallBuffers = false
	l.open(s.doors[len(s.doors)-1])
	// A Bayeux session may have had more waiting than it keeps; then it says so.
	if err := s.number(name, messages, messages+1, 0); err != nil {
		t.Fatal(err)
	}
	l.until(messages + 1)
}

// follow publishes large messages as fast as this client reads them, and fails
// if anything but them comes.
func (l *ledger) follow(s *site, messages, size int) {
	l.t.Helper()
	const ahead = 3
	for n := range messages {
		if err := s.number(l.channel, n, n+1, size); err != nil {
			l.t.Fatal(err)
		}
		l.until(n + 1 - ahead)
	}
	l.until(messages)
	if l.resyncs > 0 || l.end != nil {
		l.t.Errorf("the client beside had %d resyncs, end %+v", l.resyncs, l.end)
	}
}
