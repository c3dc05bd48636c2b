package comettest_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/internal/comettest"
)

// TestPresenceDies kills presence processes in turn: whoever is left knows every
// session soon, and never fewer.
func TestPresenceDies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const clients = 40
		c := comettest.New(t, comettest.Options{Edges: 2, Brokers: 1, Presence: 2})
		for i := range clients {
			c.Client(fmt.Sprint("client", i), fmt.Sprint("edge-", i%2), "/a")
		}
		want := func(node string) {
			t.Helper()
			if n := c.Sessions(node); n != clients {
				t.Errorf("%s knows %d sessions, want %d", node, n, clients)
			}
		}
		time.Sleep(5 * time.Second)
		want("presence-0")
		want("presence-1")
		for i := range 4 {
			dies, lives := fmt.Sprint("presence-", i%2), fmt.Sprint("presence-", 1-i%2)
			c.Crash(dies)
			time.Sleep(5 * time.Second) // its lease ends, and the other takes over
			want(lives)
			c.Start(dies)
			c.Ready(time.Minute)
			time.Sleep(5 * time.Second)
			want(dies)
			want(lives)
		}
	})
}
