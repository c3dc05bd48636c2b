package backoff_test

import (
	"testing"
	"time"

	"github.com/comet-push/comet/internal/backoff"
)

func TestDelay(t *testing.T) {
	p := backoff.Policy{Base: 100 * time.Millisecond, Max: time.Second}
	for failures, want := range map[int]time.Duration{
		-1: 0, 0: 0,
		1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 4: 800 * time.Millisecond,
		5: time.Second, 63: time.Second, 1 << 40: time.Second,
	} {
		for range 100 {
			if got := p.Delay(failures); got < want/2 || got > want {
				t.Fatalf("after %d failures %v, want %v to %v", failures, got, want/2, want)
			}
		}
	}
}

func TestDelayOfTheZeroPolicy(t *testing.T) {
	if got := (backoff.Policy{}).Delay(3); got != 0 {
		t.Errorf("%v", got)
	}
}
