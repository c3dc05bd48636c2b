package run_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/internal/run"
)

// journal records what components do, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) component(name string, linger time.Duration) run.Component {
	return run.Named(name, run.Func(func(ctx context.Context) error {
		<-ctx.Done()
		j.add(name + " asked: " + context.Cause(ctx).Error())
		time.Sleep(linger)
		j.add(name + " ended")
		return nil
	}))
}

func TestAllStopsInReverseOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(run.ErrDraining) })
		err := run.All(ctx, j.component("a", 0), j.component("b", time.Hour), j.component("c", time.Minute))
		if err != nil {
			t.Fatalf("All: %v", err)
		}
		want := []string{
			"c asked: draining", "c ended", "b asked: draining", "b ended", "a asked: draining", "a ended",
		}
		if !slices.Equal(j.lines, want) {
			t.Errorf("got  %q\nwant %q", j.lines, want)
		}
	})
}

func TestAllEndsWithTheFirstFailure(t *testing.T) {
	boom := errors.New("boom")
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"failure", boom, "b: boom"},
		{"unasked end", nil, "b: ended without being asked to"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var j journal
				err := run.All(t.Context(), j.component("a", 0), run.Named("b", run.Func(func(context.Context) error {
					time.Sleep(time.Second)
					return tt.err
				})))
				if err == nil || err.Error() != tt.want {
					t.Errorf("err = %v, want %q", err, tt.want)
				}
				if tt.err != nil && !errors.Is(err, boom) {
					t.Errorf("%v does not wrap the failure", err)
				}
				if len(j.lines) != 2 || !strings.HasPrefix(j.lines[0], "a asked: draining: a part") {
					t.Errorf("a saw %q", j.lines)
				}
			})
		})
	}
}

func TestAllOfNothingWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := run.All(ctx); err != nil {
			t.Error(err)
		}
	})
}
