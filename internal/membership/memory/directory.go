package memory

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/comet-push/comet/internal/membership"
)

// Directory is one process's connection to the store. It implements
// [membership.Directory].
type Directory struct {
	store *Store
	views membership.Latest

	// Guarded by store.mu.
	cut, killed   bool
	thawed        chan struct{} // while frozen: closed when it is not any more
	slow          time.Duration
	news, shown   int         // views that were made, and the newest that arrived
	leases        *time.Timer // runs while out of reach: the rest of its leases
	registrations map[*registration]struct{}
	renewed       time.Time // as of the last time anybody looked
}

// Disconnect cuts this handle off from the store, or connects it again.
func (d *Directory) Disconnect(cut bool) {
	d.change(func() { d.cut = cut })
}

// Kill is the crash of the process: nothing it announced is withdrawn, nothing
// is renewed, and its watchers hear no more, for ever.
func (d *Directory) Kill() {
	d.Freeze(false)
	d.change(func() { d.killed = true })
}

// Freeze stops this end of the connection, as if its process were stopped, or
// lets it go on: its leases are not renewed, no news arrive, and calls, even
// Renewed, do not return.
func (d *Directory) Freeze(frozen bool) {
	d.change(func() {
		switch {
		case frozen && d.thawed == nil:
			d.thawed = make(chan struct{})
		case !frozen && d.thawed != nil:
			close(d.thawed)
			d.thawed = nil
		}
	})
}

// Slow makes all that goes to the store, or comes from it, take so long. An
// answer is lost if the store is out of reach when it should arrive.
func (d *Directory) Slow(by time.Duration) {
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	d.slow = by
}

func (d *Directory) change(do func()) {
	s := d.store
	s.mu.Lock()
	defer s.mu.Unlock()
	d.renewLocked()
	do()
	d.settleLocked()
	s.publishLocked()
	s.electLocked()
}

func (d *Directory) reachesLocked() bool {
	return !d.store.down && !d.cut && !d.killed && d.thawed == nil
}

func (d *Directory) steadyLocked() bool { return d.reachesLocked() && d.slow == 0 }

// settleLocked does what follows from the handle having lost or found the
// store: its leases begin to run out, or its nodes are announced again.
func (d *Directory) settleLocked() {
	if d.leases != nil {
		d.leases.Stop()
		d.leases = nil
	}
	switch {
	case d.reachesLocked():
		for name, e := range d.store.announced {
			if e.by.dir == d && e.by.ended {
				delete(d.store.announced, name)
			}
		}
		for r := range d.registrations {
			r.announceLocked()
		}
		if l := d.store.leader; l != nil && l.dir == d && l.left {
			l.endLocked()
		}
	case !d.store.down:
		d.leases = time.AfterFunc(d.store.lease, func() { d.store.lapse(d) })
	}
}

// refreshLocked shows watchers what this handle can see now.
func (d *Directory) refreshLocked() {
	switch {
	case d.killed, d.thawed != nil:
	case !d.reachesLocked():
		d.shown = d.news // what is on its way is lost
		d.views.Disconnect()
	default:
		d.news++
		d.arriveLocked(d.news, membership.View{
			Nodes: d.store.nodes, Table: d.store.table, Presence: d.store.presence, Connected: true,
		})
	}
}

// arriveLocked shows a view, after a while if the handle is slow, unless
// newer news were faster.
func (d *Directory) arriveLocked(number int, v membership.View) {
	show := func() {
		if number > d.shown {
			d.shown = number
			d.views.Show(v)
		}
	}
	if d.slow == 0 {
		show()
		return
	}
	time.AfterFunc(d.slow, func() {
		d.store.mu.Lock()
		defer d.store.mu.Unlock()
		if d.reachesLocked() {
			show()
		}
	})
}

// travel is the way to the store or back. It ends where the store is out of
// reach.
func (d *Directory) travel(ctx context.Context) error {
	for {
		d.store.mu.Lock()
		slow, thawed := d.slow, d.thawed
		d.store.mu.Unlock()
		if thawed != nil {
			select {
			case <-thawed:
				continue
			case <-ctx.Done():
			}
		} else if slow > 0 {
			select {
			case <-time.After(slow):
			case <-ctx.Done():
			}
		}
		return d.ask(ctx)
	}
}

// Watch implements [membership.Directory].
func (d *Directory) Watch(ctx context.Context) <-chan membership.View { return d.views.Watch(ctx) }

// Register implements [membership.Directory].
func (d *Directory) Register(ctx context.Context, n membership.Node, updates <-chan membership.Node) error {
	r := &registration{dir: d, node: n, replaced: make(chan struct{})}
	d.change(func() { d.registrations[r] = struct{}{} })
	defer d.change(r.withdrawLocked)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.replaced:
			return fmt.Errorf("register %s: %w", n.Member(), membership.ErrReplaced)
		case u, ok := <-updates:
			if !ok {
				updates = nil
				continue
			}
			if u.Member() != n.Member() {
				return fmt.Errorf("register %s: update names another member, %s", n.Member(), u.Member())
			}
			d.change(func() { r.node = u })
		}
	}
}

// registration is one Register call.
type registration struct {
	dir      *Directory
	replaced chan struct{}
	once     sync.Once // closes replaced

	// Guarded by store.mu.
	node      membership.Node
	announced bool // has been, at least once
	ended     bool
}

// announceLocked announces the node, unless its name was taken from it.
func (r *registration) announceLocked() {
	s := r.dir.store
	e, taken := s.announced[r.node.Name]
	if taken && e.node.ID != r.node.ID {
		if r.announced {
			r.once.Do(func() { close(r.replaced) })
			return
		}
		if old := e.by; old.dir.reachesLocked() {
			old.once.Do(func() { close(old.replaced) })
		}
	}
	r.announced = true
	s.announced[r.node.Name] = entry{node: r.node, by: r}
}

// withdrawLocked ends the registration. If the store cannot be reached the
// node stays announced until its lease ends.
func (r *registration) withdrawLocked() {
	delete(r.dir.registrations, r)
	r.ended = true
	s := r.dir.store
	if e, ok := s.announced[r.node.Name]; ok && e.by == r && r.dir.reachesLocked() {
		delete(s.announced, r.node.Name)
	}
}
