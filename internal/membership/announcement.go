package membership

import "sync"

// Announcement is a node that several parts of a process change while it is
// announced: each says what is to change, and the newest state of all is what
// Register gets. Safe for concurrent use.
type Announcement struct {
	mu      sync.Mutex
	node    Node
	updates chan Node
}

// NewAnnouncement returns the announcement of a node, to be registered with its
// Updates.
func NewAnnouncement(n Node) *Announcement {
	return &Announcement{node: n, updates: make(chan Node, 1)}
}

// Updates is for [Directory.Register]. States that nobody took in time are
// replaced by newer ones.
func (a *Announcement) Updates() <-chan Node { return a.updates }

// Change changes the node, but for its name and id. It never blocks.
func (a *Announcement) Change(do func(*Node)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	do(&a.node)
	// Only we send, so there is room once an untaken state is out.
	select {
	case <-a.updates:
	default:
	}
	a.updates <- a.node
}
