package load

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// measure connects the clients and does what the mode says.
func (r *runner) measure(ctx context.Context) error {
	before, err := r.connect(ctx)
	if err != nil {
		return err
	}
	switch r.cfg.Mode {
	case Storm:
		return r.storm(before)
	case Idle:
		return r.idle(ctx)
	}
	if err := r.wait(ctx, r.settle, "connected"); err != nil {
		return err
	}
	if r.cfg.Warmup > 0 {
		if _, err := r.step(ctx, r.cfg.Rate, r.cfg.Warmup, "warm-up"); err != nil {
			return err
		}
	}
	if r.cfg.Mode == Fanout {
		return r.fanout(ctx)
	}
	b, err := r.step(ctx, r.cfg.Rate, r.cfg.Duration, "measuring")
	if err != nil {
		return err
	}
	if err := r.keep(b); err != nil {
		return err
	}
	return r.judge()
}

// connect waits until every client is subscribed or has given up, and returns
// the usage from before.
func (r *runner) connect(ctx context.Context) (before usage, err error) {
	if r.cfg.PID != 0 {
		if r.pssBefore, err = serverPSS(r.cfg.PID); err != nil {
			return usage{}, err
		}
	}
	if before, err = r.use(); err != nil {
		return usage{}, err
	}
	limit := before.at + 4*setupTimeout + time.Duration(r.cfg.Clients)*time.Millisecond
	for {
		if err := r.wait(ctx, look, ""); err != nil {
			return usage{}, err
		}
		sum := r.sum()
		r.status(fmt.Sprintf("connecting: %d of %d clients, %d retries", sum.joined, r.cfg.Clients, sum.retries))
		if sum.joined+sum.failed >= r.cfg.Clients || r.clock() > limit {
			break
		}
		if sum.failed > 20 && sum.failed > sum.joined {
			break
		}
	}
	sum := r.sum()
	took := max(sum.complete-before.at, 1)
	if float64(sum.joined) < enough*float64(r.cfg.Clients) {
		return usage{}, fmt.Errorf("only %d of %d clients got a subscription: %w", sum.joined, r.cfg.Clients, r.why(sum))
	}
	setup := newHistogram()
	for _, w := range r.workers {
		w.look(func(t *tally) { setup.Merge(t.setup) })
	}
	r.result.Sessions.Seconds = took.Seconds()
	r.result.Sessions.PerSecond = float64(sum.joined) / took.Seconds()
	r.result.Sessions.Setup = latencyOf(setup)
	return before, nil
}

// why is the fault that was most frequent, and what to do about it.
func (r *runner) why(sum tally) error {
	most, text := 0, "none answered in time"
	for fault, n := range sum.faults {
		if n > most {
			most, text = n, fault
		}
	}
	return errors.New(text + advice(text, r.cfg.URL))
}

// wait waits, and shows a state if there is one.
func (r *runner) wait(ctx context.Context, d time.Duration, state string) error {
	for end := r.clock() + d; ; {
		if state != "" {
			r.status(fmt.Sprintf("%s: %d clients, %.0f s left", state, r.sum().live, math.Ceil((end - r.clock()).Seconds())))
		}
		next := min(end, r.clock()+10*look)
		if !waitUntil(ctx, r.clock, next) {
			return context.Cause(ctx)
		}
		if next == end {
			return nil
		}
	}
}

func (r *runner) storm(before usage) error {
	after, err := r.use()
	if err != nil {
		return err
	}
	used := after.since(before)
	return r.account(used, func(s *Server) {
		s.CPUPerSession = float64(used.server.Microseconds()) / float64(r.sum().joined)
	})
}

func (r *runner) idle(ctx context.Context) error {
	// What connecting set in motion belongs to connecting.
	if err := r.wait(ctx, 2*r.settle, "settling"); err != nil {
		return err
	}
	before, err := r.use()
	if err != nil {
		return err
	}
	if err := r.wait(ctx, r.cfg.Duration, "idle"); err != nil {
		return err
	}
	after, err := r.use()
	if err != nil {
		return err
	}
	used := after.since(before)
	return r.account(used, func(s *Server) {
		clients := float64(r.sum().joined)
		s.CPUPerClientSecond = float64(used.server.Microseconds()) / clients / used.at.Seconds()
		s.PSSPerClient = float64(s.PSSAfter-s.PSSBefore) / clients
	})
}

// account adds what the server and the tool have used.
func (r *runner) account(used usage, more func(*Server)) error {
	var warnings []string
	r.result.Tool, warnings = used.tool()
	r.result.Warnings = append(r.result.Warnings, warnings...)
	if r.cfg.PID == 0 {
		return nil
	}
	pss, err := serverPSS(r.cfg.PID)
	if err != nil {
		return err
	}
	r.result.Server = &Server{
		PID: r.cfg.PID, CPUSeconds: used.server.Seconds(), PSSBefore: r.pssBefore, PSSAfter: pss,
	}
	more(r.result.Server)
	return nil
}

// burst is what came of messages at one rate.
type burst struct {
	rate      float64
	published published
	seconds   float64 // of publishing
	delivered int64
	bytes     int64
	latency   Latency
	used      usage // from the first message to the last delivery
}

func (b *burst) lost() int64 { return max(0, b.published.deliveries-b.delivered) }

func (b *burst) perSecond() float64 { return float64(b.delivered) / b.seconds }

// step publishes at a rate, and waits for what that leads to.
func (r *runner) step(ctx context.Context, rate float64, length time.Duration, state string) (*burst, error) {
	r.begin()
	subscribers := r.subscribers()
	before, err := r.use()
	if err != nil {
		return nil, err
	}
	b := &burst{rate: rate}
	bytesBefore := r.sum().bytes
	s := newSchedule(r.clock()+5*time.Millisecond, rate, length)
	done := make(chan published, 1)
	go func() { done <- r.publishers.publish(ctx, s, subscribers) }()
	ticker := time.NewTicker(10 * look)
	defer ticker.Stop()
	for going := true; going; {
		select {
		case b.published = <-done:
			going = false
		case <-ticker.C:
			r.show(state, rate, s.end())
		}
	}
	b.seconds = max((r.clock() - s.start).Seconds(), length.Seconds())
	if err := r.drain(ctx, b, state); err != nil {
		return nil, err
	}
	after, err := r.use()
	if err != nil {
		return nil, err
	}
	b.used = after.since(before)
	sum := r.sum()
	b.delivered, b.bytes = sum.delivered, sum.bytes-bytesBefore
	b.latency = r.latency()
	if b.published.messages == 0 {
		err := b.published.fault
		return nil, fmt.Errorf("no message was accepted: %w%s", err, advice(err.Error(), r.cfg.URL))
	}
	return b, nil
}

func (r *runner) show(state string, rate float64, end time.Duration) {
	sum := r.sum()
	left := math.Ceil(max(0, (end - r.clock()).Seconds()))
	r.status(fmt.Sprintf("%s at %.4g messages/s: %d deliveries, %d clients, %.0f s left", state, rate, sum.delivered, sum.live, left))
}

// drain waits until everything has arrived, or nothing does any more.
func (r *runner) drain(ctx context.Context, b *burst, state string) error {
	last, moved := int64(-1), r.clock()
	for end := moved + max(drained, 2*r.still); r.clock() < end; {
		sum := r.sum()
		if sum.delivered >= b.published.deliveries {
			return nil
		}
		if sum.delivered != last {
			last, moved = sum.delivered, r.clock()
		} else if r.clock()-moved > r.still {
			return nil
		}
		r.status(fmt.Sprintf("%s: waiting for %d deliveries", state, b.published.deliveries-sum.delivered))
		if !waitUntil(ctx, r.clock, r.clock()+look/2) {
			return context.Cause(ctx)
		}
	}
	return nil
}

// keep makes a burst the result.
func (r *runner) keep(b *burst) error {
	r.result.RatePerSec = b.rate
	r.result.Publishing = &Publishing{
		Messages: b.published.messages, Refused: b.published.faults,
		PerSecond: float64(b.published.messages) / b.seconds,
		Behind:    float64(b.published.behind.Microseconds()) / 1000,
		Accepted:  latencyOf(b.published.accepted),
	}
	if b.published.fault != nil {
		r.result.Faults = map[string]int{b.published.fault.Error(): b.published.faults}
	}
	r.result.Delivery = &Delivery{
		Expected: b.published.deliveries, Delivered: b.delivered, Lost: b.lost(), PerSecond: b.perSecond(),
		Bytes: float64(b.bytes) / float64(max(b.delivered, 1)), Latency: b.latency,
	}
	return r.account(b.used, func(s *Server) {
		if r.cfg.Mode == Check {
			return // too few to say
		}
		s.CPUPerMillion = b.used.server.Seconds() / float64(max(b.delivered, 1)) * 1e6
	})
}

// judge finds the server at fault in Check.
func (r *runner) judge() error {
	if r.cfg.Mode != Check {
		return nil
	}
	sum, d := r.sum(), r.result.Delivery
	bad := sum.gaps + sum.repeats + sum.late + sum.strays + sum.resyncs
	if d.Lost > 0 || bad > 0 || r.result.Publishing.Refused > 0 || sum.failed > 0 {
		return &serverFault{"the check has failed: messages were lost, repeated, out of order or refused, as shown"}
	}
	return nil
}
