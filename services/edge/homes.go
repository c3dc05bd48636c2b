package edge

import "sync"

// whereaboutsMost bounds the sessions of which an edge remembers the home.
const whereaboutsMost = 1 << 16

// homes remembers the homes of sessions that are not where their clientId
// hints at. What it says may be old: a home that is none says so.
type homes struct {
	mu sync.Mutex        // leaf
	by map[string]string // clientId → name@id
}

func (h *homes) note(clientID, member string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.by == nil {
		h.by = map[string]string{}
	}
	for other := range h.by {
		if len(h.by) < whereaboutsMost {
			break
		}
		delete(h.by, other) // any
	}
	h.by[clientID] = member
}

func (h *homes) forget(clientID string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.by, clientID)
}

// of returns the home of a session, or nothing.
func (h *homes) of(clientID string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.by[clientID]
}
