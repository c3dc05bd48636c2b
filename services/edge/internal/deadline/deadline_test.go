package deadline_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/services/edge/internal/deadline"
)

// run starts a queue in the bubble and returns what it hands out.
func run(t *testing.T, q *deadline.Queue[string]) *[]string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	start := time.Now()
	fired := &[]string{}
	done := make(chan error, 1)
	go func() {
		done <- q.Run(ctx, func(_ time.Time, v string) {
			*fired = append(*fired, v+"@"+time.Since(start).String())
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return fired
}

func TestRun(t *testing.T) {
	type entry = deadline.Entry[string]
	tests := []struct {
		name string
		act  func(set func(*entry, time.Duration), a, b *entry)
		want []string
	}{
		{"none", func(func(*entry, time.Duration), *entry, *entry) {}, nil},
		{"in order", func(set func(*entry, time.Duration), a, b *entry) {
			set(a, 3*time.Second)
			set(b, time.Second)
		}, []string{"b@1s", "a@3s"}},
		{"moved away", func(set func(*entry, time.Duration), a, b *entry) {
			set(a, time.Second)
			set(b, 2*time.Second)
			set(a, 5*time.Second)
		}, []string{"b@2s", "a@5s"}},
		{"moved near", func(set func(*entry, time.Duration), a, b *entry) {
			set(a, 9*time.Second)
			set(b, 8*time.Second)
			synctest.Wait()
			set(a, time.Second)
		}, []string{"a@1s", "b@8s"}},
		{"removed", func(set func(*entry, time.Duration), a, b *entry) {
			set(a, time.Second)
			set(b, 2*time.Second)
			set(a, -1)
			set(a, -1)
		}, []string{"b@2s"}},
		{"again", func(set func(*entry, time.Duration), a, _ *entry) {
			set(a, time.Second)
			time.Sleep(2 * time.Second)
			set(a, time.Second)
		}, []string{"a@1s", "a@3s"}},
		{"past", func(set func(*entry, time.Duration), a, _ *entry) {
			time.Sleep(time.Second)
			set(a, 0)
		}, []string{"a@1s"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := deadline.New[string](0)
				fired := run(t, q)
				synctest.Wait()
				tt.act(func(e *entry, in time.Duration) {
					if in < 0 {
						q.Set(e, time.Time{})
						return
					}
					q.Set(e, time.Now().Add(in))
				}, &entry{Value: "a"}, &entry{Value: "b"})
				time.Sleep(time.Minute)
				synctest.Wait()
				if !slices.Equal(*fired, tt.want) {
					t.Errorf("fired %v, want %v", *fired, tt.want)
				}
				if q.Len() != 0 {
					t.Errorf("%d entries left", q.Len())
				}
			})
		})
	}
}

func BenchmarkSet(b *testing.B) {
	q := deadline.New[int](0)
	entries := make([]deadline.Entry[int], 10_000)
	start := time.Now()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		q.Set(&entries[i%len(entries)], start.Add(time.Duration(i*7919%1_000_003)))
	}
}

// TestSlackServesManyAtOnce has deadlines that are near each other handed out
// at one time, none early and none later than the slack allows.
func TestSlackServesManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slack = 100 * time.Millisecond
		q := deadline.New[int](slack)
		start := time.Now()
		var late []time.Duration
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() {
			_ = q.Run(ctx, func(now time.Time, v int) {
				late = append(late, now.Sub(start.Add(time.Duration(v)*time.Millisecond)))
			})
		})
		for _, ms := range []int{10, 50, 110, 111, 300} {
			q.Set(&deadline.Entry[int]{Value: ms}, start.Add(time.Duration(ms)*time.Millisecond))
		}
		time.Sleep(time.Second)
		cancel()
		done.Wait()
		want := []time.Duration{slack, 60 * time.Millisecond, 0, slack, slack}
		if !slices.Equal(late, want) {
			t.Errorf("handed out late by %v, want %v", late, want)
		}
	})
}
