package membership_test

import (
	"sync"
	"testing"

	"github.com/comet-push/comet/internal/membership"
)

// TestAnnouncementKeepsWhatOthersSaid changes a node from two sides, while
// nobody takes updates: the last one has both changes.
func TestAnnouncementKeepsWhatOthersSaid(t *testing.T) {
	a := membership.NewAnnouncement(membership.Node{Name: "n", ID: "1"})
	var both sync.WaitGroup
	both.Go(func() { a.Change(func(n *membership.Node) { n.Draining = true }) })
	both.Go(func() { a.Change(func(n *membership.Node) { n.Cordoned = true }) })
	both.Wait()
	if n := <-a.Updates(); !n.Draining || !n.Cordoned || n.Member() != "n@1" {
		t.Errorf("announced %+v", n)
	}
	select {
	case n := <-a.Updates():
		t.Errorf("announced once more: %+v", n)
	default:
	}
}
