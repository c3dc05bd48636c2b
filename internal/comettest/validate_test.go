package comettest

import (
	"strings"
	"testing"
	"time"
)

// TestCheck shows the validator breaches that it must see, and what it must
// let pass.
func TestCheck(t *testing.T) {
	begin := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	published := &Publisher{Publishing: Publishing{Channel: "/a/x"}, acked: 9, retried: map[int]bool{3: true}}
	for n := range 9 { // n+1 begins n seconds after begin
		published.started = append(published.started, begin.Add(time.Duration(n)*time.Second))
		place := uint64(n + 1)
		if n >= 4 {
			place += 3 << 21 // in another log
		}
		published.placed = append(published.placed, place)
	}
	// Of a history, s is a session, u a subscription confirmed after 2 began,
	// r a resync, x a request that was cut, l that the client left, a digit an
	// event, and a space begins the next reply. With p events are pushed.
	for _, tt := range []struct{ history, want string }{
		{"s u 3456789", ""},
		{"s u 23456789", ""}, // began before the subscription was confirmed
		{"s u 3 4 5 6 7 8 9", ""},
		{"s u 2456789", "4 came where 3 was due"},
		{"s u 456789", "4 came where 3 was due"},
		{"s u 34 4 56789", "4 came again or too late, 5 was due"},
		{"s u 3 5 4 6789", "4 came again"},
		{"s u 34 789", "7 came where 5 was due, and no resync"},
		{"s u 34 r 789", ""},
		{"s u 34 r789", ""},
		{"s u r34 789", ""},                         // in the reply of the last event before the gap
		{"s u r 34 789", "7 came where 5 was due"},  // too early
		{"s u 34 7 r 89", "7 came where 5 was due"}, // too late
		{"s u 34", "5 to 9 never came"},
		{"s u 345 r 56789", ""},   // the log was lost while 5 was unclear
		{"s u 34567 r 56789", ""}, // and 6 and 7 with it
		{"s u 345 r 456789", "4 came again"},
		{"s u 345 r 6 3 789", ""}, // 3 was tried again
		{"s u 34567 r 89", ""},
		{"s u 34 r", ""},
		{"s 3", "3 came without a subscription"},
		{"s u 34 s u 89", "8 came where 3 was due"}, // a second session promises anew
		{"s u 34 s", ""},
		{"s u 34 l", ""},
		{"s u p 3 4 7 8 r 9", ""},
		{"s u p 3 4 7 8 x s u 9", "9 came where 3 was due"}, // not 7: the socket was cut
		{"s u p 3 4 7 8 x 9", "7 came where 5 was due"},
		{"s u p 3 4 7 8 x 9 r", ""}, // told when it came again
		{"s u p 3 4 7 8 9", "7 came where 5 was due"},
		{"s u p 3 4 5 x 3 4 5 x 5 6 7 8 9", ""}, // what was not confirmed
		{"s u p 3 4 t 5 x 5 6 7 8 9", ""},
		{"s u p 3 4 t 5 x 4 5 6 7 8 9", "4 came again or too late"},
		{"s u p 3 4 5 4 x 6 7 8 9", "4 came again or too late"},
		{"s u 34 x 34567 x 567 x 567 89", ""},             // the last answer comes again
		{"s u 34 5 x 34 56789", "3 came again"},           // one before it
		{"s u 34 34 x 56789", "3 came again or too late"}, // before the cut
	} {
		c := &Client{Profile: Profile{Name: "c", Transport: LongPolling, Channels: []string{"/a/*"}}}
		var clock time.Time
		for _, k := range tt.history {
			r := Record{Reply: c.replies, At: clock, Kind: Event, Channel: "/a/x", N: int(k - '0')}
			switch k {
			case ' ':
				c.replies++
				continue
			case 's':
				r = Record{Reply: c.replies, Kind: Session}
			case 'u':
				r = Record{Reply: c.replies, Kind: Subscribed, Channel: "/a/*", At: begin.Add(1500 * time.Millisecond)}
			case 'p':
				continue
			case 't':
				clock = clock.Add(unconfirmed + 1)
				continue
			case 'x':
				r = Record{Reply: c.replies, At: clock, Kind: Cut}
			case 'l':
				r = Record{Reply: c.replies, Kind: Left}
			case 'r':
				r = Record{Reply: c.replies, Kind: Resync, Channel: "/a/*"}
			}
			c.history = append(c.history, r)
		}
		if strings.HasPrefix(tt.history, "s u p") {
			c.Transport = WebSocket
		}
		switch err := Check(c, published); {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.history, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: got %v, want %q", tt.history, err, tt.want)
		}
	}
}
