package edge

import (
	"sync"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/clientid"
)

// edges is the other edges, as the directory has them.
type edges struct {
	self string // as name@id

	mu       sync.RWMutex // leaf
	view     membership.View
	byMember map[string]membership.Node
	byHint   map[string][]membership.Node // two may share a hint
}

func (e *edges) see(v membership.View) {
	byMember, byHint := map[string]membership.Node{}, map[string][]membership.Node{}
	for _, n := range v.With(membership.Edge) {
		member := n.Member()
		if member == e.self {
			continue
		}
		byMember[member] = n
		hint := shard.Hint(member)
		byHint[hint] = append(byHint[hint], n)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.view, e.byMember, e.byHint = v, byMember, byHint
}

// known is the newest view.
func (e *edges) known() membership.View {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.view
}

// member returns an edge by name@id.
func (e *edges) member(member string) (n membership.Node, ok bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	n, ok = e.byMember[member]
	return n, ok
}

// usable reports whether an edge is there and stays.
func (e *edges) usable(member string) bool {
	n, ok := e.member(member)
	return ok && !n.EdgeLeaves()
}

// others reports whether there is another edge that stays.
func (e *edges) others() bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, n := range e.byMember {
		if !n.EdgeLeaves() {
			return true
		}
	}
	return false
}

// hinted returns the edges that a clientId may have been made by.
func (e *edges) hinted(clientID string) []membership.Node {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.byHint[clientid.Hint(clientID)]
}
