package comettest

import (
	"time"

	"github.com/comet-push/comet/internal/membership"
)

// rescue is how long it takes at most until another broker, which a leaving one
// reaches all that time, has copies of what only that one has.
const rescue = 8 * time.Second

// leave waits for the end of a node that drains, and returns for how long, up to
// then, there was a broker that could have taken what it has: one that
// stays, while both, and the controller, reach each other and the store.
func (c *Cluster) leave(n *Node) (helped time.Duration, err error) {
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	self := n.Process.Node().Member()
	since := map[string]time.Time{} // by member
	for {
		select {
		case err := <-n.done:
			for _, t := range since {
				helped = max(helped, time.Since(t))
			}
			return helped, err
		case now := <-look.C:
			able := c.able(n.Name, self)
			for member := range since {
				if !able[member] {
					delete(since, member)
				}
			}
			for member := range able {
				if _, known := since[member]; !known {
					since[member] = now
				}
			}
		}
	}
}

// able are the members that could take copies from a leaving one now.
func (c *Cluster) able(name, self string) map[string]bool {
	able, steady := map[string]bool{}, false
	for _, other := range c.Store.Steady() {
		switch {
		case other.Member() == self:
			steady = true
		case other.Has(membership.Broker) && !other.Draining && c.Net.open(name, other.Name):
			able[other.Member()] = true
		}
	}
	if !steady {
		return nil
	}
	return able
}
