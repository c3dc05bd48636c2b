package membership

import (
	"context"
	"sync"
)

// Latest shows the newest view to any number of watchers. It is what drivers
// build their Watch from; the zero value is ready to use. Safe for concurrent
// use.
type Latest struct {
	mu       sync.Mutex
	seen     bool
	view     View
	watchers map[chan View]struct{}
}

// Show makes v the newest view.
func (l *Latest) Show(v View) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.showLocked(v)
}

// Disconnect shows the last view again, with Connected false.
func (l *Latest) Disconnect() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen && l.view.Connected {
		v := l.view
		v.Connected = false
		l.showLocked(v)
	}
}

func (l *Latest) showLocked(v View) {
	l.view, l.seen = v, true
	for ch := range l.watchers {
		// Only we send, so there is room once an untaken view is out.
		select {
		case <-ch:
		default:
		}
		ch <- v
	}
}

// Watch implements [Directory].
func (l *Latest) Watch(ctx context.Context) <-chan View {
	ch := make(chan View, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.watchers == nil {
		l.watchers = make(map[chan View]struct{})
	}
	l.watchers[ch] = struct{}{}
	if l.seen {
		ch <- l.view
	}
	context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.watchers, ch)
		close(ch)
	})
	return ch
}
