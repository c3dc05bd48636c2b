package hold

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// worker looks after some of the connections: one goroutine takes what epoll
// says about them, another writes what waits for them.
type worker struct {
	engine *Engine  // static
	epoll  *os.File // of a worker that runs; closed to stop it
	spares spares

	table     sync.Mutex
	slots     []*conn // guarded by table, as are the next two; nil: free
	free      []uint32
	additions uint32

	list    sync.Mutex // leaf
	some    sync.Cond  // of list
	dirty   []*conn    // guarded by list, as are the next two: to be looked after
	asleep  bool
	stopped bool

	events [256]unix.EpollEvent // of the polling goroutine, as are the next three
	batch  []*conn              // of events
	again  []*conn              // has more to read
	buffer [64 << 10]byte
	direct *direct // nil: none

	scratch []byte // of the flushing goroutine
}

func newWorker(e *Engine) *worker {
	const scratch = 64 << 10
	w := &worker{engine: e, scratch: make([]byte, 0, scratch)}
	w.some.L = &w.list
	return w
}

// open makes the worker's epoll. It is itself polled by the runtime, so that
// no thread waits in it.
func (w *worker) open() error {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("make an epoll: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return errors.Join(fmt.Errorf("make an epoll non-blocking: %w", err), unix.Close(fd))
	}
	w.epoll = os.NewFile(uintptr(fd), "epoll")
	return nil
}

// add takes a connection on. Whatever epoll has to say about it in its life is
// asked for once, here.
func (w *worker) add(c *conn) error {
	w.table.Lock()
	if n := len(w.free); n > 0 {
		c.slot = w.free[n-1]
		w.free = w.free[:n-1]
		w.slots[c.slot] = c
	} else {
		c.slot = uint32(len(w.slots))
		w.slots = append(w.slots, c)
	}
	w.additions++
	c.generation = w.additions
	w.table.Unlock()
	w.engine.counts[c.state].Add(1)

	event := unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&(1<<32-1),
		Fd:     int32(c.slot), Pad: int32(c.generation),
	}
	return w.control(func(epoll int) error { return unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, int(c.fd), &event) })
}

// control calls f with the epoll while it is open.
func (w *worker) control(f func(epoll int) error) error {
	raw, err := w.epoll.SyscallConn()
	if err != nil {
		return fmt.Errorf("use epoll: %w", err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
		return fmt.Errorf("use epoll: %w", err)
	}
	return failed
}

func (w *worker) remove(c *conn) {
	w.table.Lock()
	defer w.table.Unlock()
	w.slots[c.slot] = nil
	w.free = append(w.free, c.slot)
}

// all returns the connections for which f is true.
func (w *worker) all(f func(*conn) bool) []*conn {
	const atOnce = 1 << 10 // so that nobody waits long for the table
	var all []*conn
	for from := 0; ; from += atOnce {
		w.table.Lock()
		if from >= len(w.slots) {
			w.table.Unlock()
			return all
		}
		for _, c := range w.slots[from:min(from+atOnce, len(w.slots))] {
			if c != nil && f(c) {
				all = append(all, c)
			}
		}
		w.table.Unlock()
	}
}

// poll takes events until the epoll is closed.
func (w *worker) poll() error {
	raw, err := w.epoll.SyscallConn()
	if err != nil {
		return fmt.Errorf("use epoll: %w", err)
	}
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		failed = w.ready(int(fd))
		return failed != nil
	})
	w.list.Lock()
	defer w.list.Unlock()
	if w.stopped {
		return nil
	}
	return fmt.Errorf("wait for connections: %w", errors.Join(failed, err))
}

// ready handles all events there are. What comes after the last of them makes
// the epoll ready anew, so that nothing is missed.
func (w *worker) ready(epoll int) error {
	for {
		n, err := unix.EpollWait(epoll, w.events[:], 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		}
		w.dispatch(w.events[:n])
		again := w.again
		w.again = nil
		for _, c := range again {
			if c.readSocket(w.buffer[:]) {
				w.again = append(w.again, c)
			}
		}
		if n < len(w.events) && len(w.again) == 0 {
			return nil
		}
	}
}

func (w *worker) dispatch(events []unix.EpollEvent) {
	w.batch = w.batch[:0]
	w.table.Lock()
	for i := range events {
		var c *conn
		if slot := uint32(events[i].Fd); int(slot) < len(w.slots) {
			c = w.slots[slot]
		}
		if c != nil && c.generation != uint32(events[i].Pad) {
			c = nil // it was another's event
		}
		w.batch = append(w.batch, c)
	}
	w.table.Unlock()
	for i, c := range w.batch {
		if c != nil && c.event(events[i].Events, w.buffer[:]) {
			w.again = append(w.again, c)
		}
	}
	clear(w.batch)
}

// push puts a connection on the list of those to be looked after.
func (w *worker) push(c *conn) {
	w.list.Lock()
	defer w.list.Unlock()
	w.dirty = append(w.dirty, c)
	if w.asleep {
		w.asleep = false
		w.some.Signal()
	}
}

// flush looks after the connections on the list until the worker is stopped.
func (w *worker) flush() {
	var batch []*conn
	for {
		batch = w.next(batch)
		if batch == nil {
			return
		}
		for i, c := range batch {
			c.flush()
			batch[i] = nil
		}
	}
}

// next waits for a list that is not empty and gives another for it.
func (w *worker) next(used []*conn) []*conn {
	const keep = 1 << 10
	if cap(used) > keep && len(used) < cap(used)/4 {
		used = nil
	}
	w.list.Lock()
	defer w.list.Unlock()
	for len(w.dirty) == 0 {
		if w.stopped {
			return nil
		}
		w.asleep = true
		w.some.Wait()
	}
	w.asleep = false
	full := w.dirty
	w.dirty = used[:0]
	return full
}

// stop ends both goroutines.
func (w *worker) stop() {
	w.list.Lock()
	w.stopped = true
	w.some.Signal()
	w.list.Unlock()
	_ = w.epoll.Close() // nothing to lose
}
