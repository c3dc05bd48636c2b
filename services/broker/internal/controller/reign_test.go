package controller

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/placement"
)

// TestAPauseIsAGap has a leader sleep: it did not see who came and went.
func TestAPauseIsAGap(t *testing.T) {
	const lease = 3 * time.Second
	begin := time.Unix(1_700_000_000, 0)
	var helpers sync.WaitGroup
	defer helpers.Wait()
	c := New(Config{Lease: lease, Logger: slog.New(slog.DiscardHandler), Moved: func(placement.Reason) {}})
	c.members.see(membership.View{Connected: true}, begin)
	r := newReign(c, nil, &helpers, begin)
	r.see(membership.View{Connected: true, Table: &shard.Table{}}, begin)
	for _, step := range []struct{ at, until time.Duration }{
		{time.Second, 3 * lease},
		{time.Second + lease, 3 * lease},
		{time.Second + 2*lease + 1, time.Second + 5*lease + 1},
		{2*time.Second + 2*lease, time.Second + 5*lease + 1},
	} {
		r.act(context.Background(), begin.Add(step.at))
		if got := r.cautious.Sub(begin); got != step.until {
			t.Errorf("at %v: nobody is absent before %v, want %v", step.at, got, step.until)
		}
	}
}
