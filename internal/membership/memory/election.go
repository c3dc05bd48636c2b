package memory

import (
	"context"
	"fmt"
	"slices"

	"github.com/comet-push/comet/internal/membership"
)

// leadership is a candidate, then the leader, then a former one.
type leadership struct {
	dir     *Directory
	name    string
	elected chan struct{} // closed with store.mu held
	lost    chan struct{} // closed with store.mu held, when store.leader moves on
	left    bool          // guarded by store.mu: has given up
}

// Campaign implements [membership.Directory].
func (d *Directory) Campaign(ctx context.Context, candidate string) (membership.Leadership, error) {
	l := &leadership{dir: d, name: candidate, elected: make(chan struct{}), lost: make(chan struct{})}
	l.wait()
	select {
	case <-l.elected:
		return l, nil
	case <-ctx.Done():
		l.leave()
		return nil, fmt.Errorf("campaign as %s: %w", candidate, context.Cause(ctx))
	}
}

func (l *leadership) wait() {
	s := l.dir.store
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = append(s.waiting, l)
	s.electLocked()
}

// Lost implements [membership.Leadership].
func (l *leadership) Lost() <-chan struct{} { return l.lost }

// Resign implements [membership.Leadership].
func (l *leadership) Resign(context.Context) { l.leave() }

// leave gives up waiting or leading. A leader who cannot tell the store keeps
// others waiting until it can, or its lease ends.
func (l *leadership) leave() {
	s := l.dir.store
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = slices.DeleteFunc(s.waiting, func(w *leadership) bool { return w == l })
	l.left = true
	if s.leader == l && l.dir.reachesLocked() {
		l.endLocked()
		s.electLocked()
	}
}

// endLocked ends the leadership of the present leader.
func (l *leadership) endLocked() {
	l.dir.store.leader = nil
	close(l.lost)
}

// Write implements [membership.Leadership].
func (l *leadership) Write(ctx context.Context, c membership.Change) error {
	if _, err := l.dir.swap(ctx, c, l); err != nil {
		return fmt.Errorf("write slot %d: %w", c.Slot, err)
	}
	return nil
}

// WriteHolders implements [membership.Leadership].
func (l *leadership) WriteHolders(ctx context.Context, c membership.HoldersChange) error {
	if _, err := l.dir.replace(ctx, func(s *Store) (int64, error) { return s.swapHolders(c, l) }); err != nil {
		return fmt.Errorf("write presence shard %d: %w", c.Shard, err)
	}
	return nil
}
