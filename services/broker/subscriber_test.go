package broker_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
)

// subscriber collects the events of one Subscribe call.
type subscriber struct {
	*member
	channels []string
	cancel   context.CancelFunc
	events   chan *pubsubv1.SubscribeResponse
	ended    error // once events is closed
}

// subscribe subscribes and waits for open.
func (m *member) subscribe(since string, channels ...string) *subscriber {
	m.t.Helper()
	s := m.attach(since, channels...)
	if first := s.next(10 * time.Second); first.GetOpen() == nil {
		m.t.Fatalf("first event of %v is %v, want open", channels, first)
	}
	return s
}

func (m *member) attach(since string, channels ...string) *subscriber {
	m.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	m.t.Cleanup(cancel)
	stream, err := m.pubsub.Subscribe(ctx, &pubsubv1.SubscribeRequest{Channels: channels, Since: since})
	if err != nil {
		m.t.Fatal(err)
	}
	s := &subscriber{member: m, channels: channels, cancel: cancel, events: make(chan *pubsubv1.SubscribeResponse, 1<<16)}
	go func() {
		defer close(s.events)
		for {
			e, err := stream.Recv()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					s.ended = err
				}
				return
			}
			s.events <- e
		}
	}()
	return s
}

// next returns the next event; nil at the end.
func (s *subscriber) next(within time.Duration) *pubsubv1.SubscribeResponse {
	s.t.Helper()
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case e := <-s.events:
		return e
	case <-timer.C:
		s.t.Fatalf("no event of %v within %v", s.channels, within)
		return nil
	}
}

// want fails unless exactly these messages come next, cursors left aside.
func (s *subscriber) want(data ...string) {
	s.t.Helper()
	var got []string
	for len(got) < len(data) {
		e := s.next(30 * time.Second)
		switch {
		case e.GetCursor() != nil:
		case e.GetMessage() != nil:
			got = append(got, string(e.GetMessage().GetData()))
		default:
			s.t.Fatalf("%v got %v, then %v (%v), want %v", s.channels, got, e, s.ended, data)
		}
	}
	if !slices.Equal(got, data) {
		s.t.Errorf("%v got %v, want %v", s.channels, got, data)
	}
}

// wantSet fails unless n messages come, each once, in order within its channel.
func (s *subscriber) wantSet(n int) {
	s.t.Helper()
	last := map[string]uint64{}
	for got := 0; got < n; {
		e := s.next(30 * time.Second)
		m := e.GetMessage()
		switch {
		case e.GetCursor() != nil:
		case m == nil:
			s.t.Fatalf("%v got %d messages, then %v (%v)", s.channels, got, e, s.ended)
		case m.GetPosition() <= last[m.GetChannel()]:
			s.t.Errorf("%s: position %d after %d", m.GetChannel(), m.GetPosition(), last[m.GetChannel()])
		default:
			last[m.GetChannel()] = m.GetPosition()
			got++
		}
	}
}

// nextCursor returns the next cursor event, passing over messages.
func (s *subscriber) nextCursor(within time.Duration) string {
	s.t.Helper()
	for {
		if c := s.next(within).GetCursor(); c != nil {
			return c.GetCursor()
		}
	}
}
