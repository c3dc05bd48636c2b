package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/comet-push/comet/test/internal/cluster"
)

// How brokers are put under load: so many publishers, each with so many
// messages of so many bytes that are not acknowledged, to so many channels in
// turn.
const (
	loadPublishers = 4
	loadWindow     = 64
	loadBytes      = 256
	loadChannels   = 1024

	loadRounds = 5
	loadWarmUp = 2 * time.Second
	loadRound  = 5 * time.Second
	// loadFill is how long it takes to fill a stream of JetStream.
	loadFill = 40 * time.Second
)

// system is a running cluster of servers to publish to.
type system struct {
	name      string
	pids      []int
	processes []*cluster.Process // if they are Comet's
	leave     func()             // ends the one that joined last
	join      func()             // starts one more of these, and waits until it has its share
	// every is how often each publisher sends; 0: as fast as messages are
	// acknowledged. What is late counts from when it was due.
	every time.Duration
	// connect returns a function that sends a message to a channel and does not
	// wait for its acknowledgement, which is told to acked by the message's
	// number below loadWindow. The connection ends with ctx.
	connect func(ctx context.Context, publisher int, acked func(number int, err error)) (func(number, channel int, data []byte) error, error)
}

// load is what came of publishing to a system.
type load struct {
	perSecond float64 // messages acknowledged
	cpu       float64 // of all its servers for one message, in microseconds
	p99       float64 // from sending to the acknowledgement, in milliseconds
}

// crew publishes to a system.
type crew struct {
	system *system
	all    []*worker
}

// worker is one publisher.
type worker struct {
	send func(number, channel int, data []byte) error
	free chan int // numbers of messages that may be sent

	every        time.Duration
	first, count int // of channels; the next is first + loadPublishers*count
	data         [loadWindow][]byte
	sent         [loadWindow]time.Time
	took         [loadWindow][]time.Duration // by number: each is one goroutine's at a time
	failed       atomic.Pointer[error]
}

// hire connects publishers to a system.
func hire(ctx context.Context, s *system) (*crew, error) {
	c := &crew{system: s}
	for i := range loadPublishers {
		w := &worker{free: make(chan int, loadWindow), first: i, every: s.every}
		for n := range loadWindow {
			w.data[n] = fmt.Appendf(nil, "%q", fmt.Sprintf("%02d", n)+strings.Repeat("x", loadBytes-4))
			w.free <- n
		}
		var err error
		if w.send, err = s.connect(ctx, i, w.acked); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		c.all = append(c.all, w)
	}
	return c, nil
}

// numberOf is the number of the message that has the data.
func numberOf(data []byte) (int, error) {
	if len(data) != loadBytes {
		return 0, fmt.Errorf("a message of %d bytes was acknowledged", len(data))
	}
	return strconv.Atoi(string(data[1:3]))
}

func (w *worker) acked(number int, err error) {
	if err != nil {
		w.failed.CompareAndSwap(nil, &err)
	}
	w.took[number] = append(w.took[number], time.Since(w.sent[number]))
	w.free <- number
}

// publish publishes until a time comes and waits for the last acknowledgements.
func (w *worker) publish(until time.Time) error {
	for n := range w.took {
		w.took[n] = w.took[n][:0]
	}
	for due := time.Now(); due.Before(until) && w.failed.Load() == nil; {
		if early := time.Until(due); early > 0 {
			<-time.After(early)
		}
		n := <-w.free
		w.sent[n] = due
		if err := w.send(n, (w.first+loadPublishers*w.count)%loadChannels, w.data[n]); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		w.count++
		if due = due.Add(w.every); w.every == 0 {
			due = time.Now()
		}
	}
	late := time.After(10 * time.Second)
	for range loadWindow {
		select {
		case <-w.free:
		case <-late:
			return errors.New("messages were not acknowledged")
		}
	}
	for n := range loadWindow {
		w.free <- n
	}
	if err := w.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// work publishes for so long.
func (c *crew) work(length time.Duration) (load, error) {
	before, err := cpuOf(c.system.pids)
	if err != nil {
		return load{}, err
	}
	began := time.Now()
	errs := make([]error, len(c.all))
	var workers sync.WaitGroup
	for i, w := range c.all {
		workers.Go(func() { errs[i] = w.publish(began.Add(length)) })
	}
	workers.Wait()
	elapsed := time.Since(began)
	after, err := cpuOf(c.system.pids)
	if err := errors.Join(errors.Join(errs...), err); err != nil {
		return load{}, fmt.Errorf("%s: %w", c.system.name, err)
	}
	var took []time.Duration
	for _, w := range c.all {
		took = append(took, slices.Concat(w.took[:]...)...)
	}
	slices.Sort(took)
	return load{
		perSecond: float64(len(took)) / elapsed.Seconds(),
		cpu:       float64((after - before).Microseconds()) / float64(len(took)),
		p99:       float64(took[len(took)*99/100].Microseconds()) / 1000,
	}, nil
}

func cpuOf(pids []int) (time.Duration, error) {
	total := time.Duration(0)
	for _, pid := range pids {
		used, err := cpu(pid)
		if err != nil {
			return 0, err
		}
		total += used
	}
	return total, nil
}

// compare puts systems under load by turns, some rounds, and returns what came
// of each, by round.
func compare(ctx context.Context, systems ...*system) ([][]load, error) {
	crews, err := hireAll(ctx, systems)
	if err != nil {
		return nil, err
	}
	return inTurn(crews)
}

// hireAll returns the crews of systems, once they have warmed up.
func hireAll(ctx context.Context, systems []*system) ([]*crew, error) {
	crews := make([]*crew, len(systems))
	for i, s := range systems {
		var err error
		if crews[i], err = hire(ctx, s); err != nil {
			return nil, err
		}
		if _, err := crews[i].work(loadWarmUp); err != nil {
			return nil, fmt.Errorf("warm-up: %w", err)
		}
	}
	return crews, nil
}

// compareFull is compare, for systems that keep as much as they ever will, and
// the same before they did.
func compareFull(ctx context.Context, systems ...*system) (empty, full [][]load, err error) {
	crews, err := hireAll(ctx, systems)
	if err != nil {
		return nil, nil, err
	}
	if empty, err = inTurn(crews); err != nil {
		return nil, nil, err
	}
	for _, c := range crews {
		if _, err := c.work(loadFill); err != nil {
			return nil, nil, fmt.Errorf("fill: %w", err)
		}
	}
	full, err = inTurn(crews)
	return empty, full, err
}

// inTurn has some rounds worked by turns.
func inTurn(crews []*crew) ([][]load, error) {
	all := make([][]load, len(crews))
	for range loadRounds {
		for i, c := range crews {
			l, err := c.work(loadRound)
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(os.Stderr, "%s: %.0f messages/s, CPU %.1f µs, p99 %.1f ms\n", c.system.name, l.perSecond, l.cpu, l.p99)
			all[i] = append(all[i], l)
		}
	}
	return all, nil
}

// median returns the middle load, of each figure.
func median(rounds []load) load {
	middle := func(figure func(load) float64) float64 {
		var all []float64
		for _, l := range rounds {
			all = append(all, figure(l))
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	return load{
		perSecond: middle(func(l load) float64 { return l.perSecond }),
		cpu:       middle(func(l load) float64 { return l.cpu }),
		p99:       middle(func(l load) float64 { return l.p99 }),
	}
}

// ratio returns the middle of the ratios of rounds that stand next to each
// other.
func ratio(ours, theirs []load) load {
	var all []load
	for i := range ours {
		all = append(all, load{
			ours[i].perSecond / theirs[i].perSecond, ours[i].cpu / theirs[i].cpu, ours[i].p99 / theirs[i].p99,
		})
	}
	return median(all)
}
