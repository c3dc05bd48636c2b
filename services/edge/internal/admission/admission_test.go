package admission_test

import (
	"testing"
	"time"

	"github.com/comet-push/comet/services/edge/internal/admission"
)

// visit is a client that comes, by the millisecond.
type visit struct{ client, tries int }

// TestStorm has many clients come within a second, each of which comes again when it
// is told to, beside some that come all the time.
func TestStorm(t *testing.T) {
	const perSecond, storm, others, seconds = 1000, 30_000, 200, 60
	gate, start := admission.New(perSecond), time.Unix(1_700_000_000, 0)
	coming := make([][]visit, 4*seconds*1000)
	for i := range storm {
		coming[i*1000/storm] = append(coming[i*1000/storm], visit{client: i})
	}
	for i := range others * seconds {
		coming[i*1000/others] = append(coming[i*1000/others], visit{client: storm + i})
	}
	began := make([]int, 4*seconds)
	tries, worst, last := 0, 0, time.Duration(0)
	for ms, all := range coming {
		at := time.Duration(ms) * time.Millisecond
		for _, v := range all {
			v.tries++
			after, ok := gate.Admit(start.Add(at))
			if !ok {
				if after < 500*time.Millisecond || after > 91*time.Second {
					t.Fatalf("client %d is to come again after %v", v.client, after)
				}
				again := int((at + after).Milliseconds()) + 1
				coming[again] = append(coming[again], v)
				continue
			}
			began[ms/1000]++
			tries += v.tries
			worst = max(worst, v.tries)
			if v.client < storm {
				last = max(last, at)
			}
		}
	}
	t.Logf("the last of the storm began after %v; %.2f tries a client, at worst %d", last, float64(tries)/(storm+others*seconds), worst)
	for second, n := range began {
		if n > 3*perSecond || second > 2 && n > perSecond*11/10 {
			t.Errorf("in second %d %d clients began, at %d a second", second, n, perSecond)
		}
	}
	if last > 60*time.Second { // at least 28 s without the others, 35 with them
		t.Errorf("the last of the storm began after %v", last)
	}
	if tries > 3*(storm+others*seconds) || worst > 12 {
		t.Errorf("%d tries for %d clients, at worst %d", tries, storm+others*seconds, worst)
	}
}

func TestQuiet(t *testing.T) {
	gate, now := admission.New(10), time.Unix(1_700_000_000, 0)
	for range 20 {
		if after, ok := gate.Admit(now); !ok {
			t.Fatalf("one of the first twenty is to come again after %v", after)
		}
	}
	after, ok := gate.Admit(now)
	if ok || after < 600*time.Millisecond || after > 900*time.Millisecond {
		t.Errorf("the next one: let in %v, comes again after %v; want 0.6 to 0.9 s", ok, after)
	}
	if _, ok := gate.Admit(now.Add(100 * time.Millisecond)); !ok {
		t.Error("a tenth of a second later there is no room for one more")
	}
}
