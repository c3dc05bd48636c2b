package hold_test

import (
	"testing"

	"github.com/comet-push/comet/services/edge/internal/hold"
)

func TestExchangesFollowEachOther(t *testing.T) {
	s := serve(t, hold.Config{})
	p := s.dial()
	for range 3 {
		p.get("/x")
		x := s.park()
		s.wantCounts(hold.Counts{Exchanges: 1})
		x.answer("hello")
		p.want("hello")
		x.wantOver(true)
		s.wantCounts(hold.Counts{Idle: 1})
		p.get("/now")
		p.want("now " + p.LocalAddr().String())
		s.wantCounts(hold.Counts{Idle: 1})
	}
}

func TestStream(t *testing.T) {
	s := serve(t, hold.Config{})
	p := s.dial()
	p.get("/s")
	x := s.park()
	r := p.response()
	_ = r
	s.wantCounts(hold.Counts{Streams: 1})
	x.stream.Send(line("a"))
	x.stream.Send(line("b"))
	x.stream.End(line("c"))
	x.wantOver(true)
}
