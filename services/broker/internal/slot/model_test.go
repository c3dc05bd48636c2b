package slot

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/comet-push/comet/services/broker/internal/history"
)

// landed is one publication that was appended, as the model remembers it.
type landed struct {
	Publication
	offset uint64
	time   time.Time
}

type model struct {
	*Slot
	now       time.Time // may go back
	log       []landed
	committed []*history.Entry
	waiting   int
}

const (
	modelKeys    = 4
	modelBytes   = 280 // four small entries
	modelWindow  = time.Minute
	modelLargest = 8
)

// clock is the time of the next entry: it never goes back.
func (m *model) clock() time.Time {
	if n := len(m.log); n > 0 && m.log[n-1].time.After(m.now) {
		return m.log[n-1].time
	}
	return m.now
}

// find returns the last entry that a key must still be known for.
func (m *model) find(p Publication) *landed {
	if p.Key == "" {
		return nil
	}
	seen := 0
	for i := len(m.log) - 1; i >= 0 && seen < modelKeys; i-- {
		l := &m.log[i]
		if l.Key == "" {
			continue
		}
		if seen++; l.Channel == p.Channel && l.Key == p.Key {
			if m.clock().Before(l.time.Add(modelWindow)) {
				return l
			}
			return nil
		}
	}
	return nil
}

func (m *model) append(t *rapid.T, p Publication) {
	end, clock, first := m.End(), m.clock(), m.find(p)
	r, err := m.Append(p, m.now)
	cost := (&history.Entry{Channel: p.Channel, Data: p.Data}).Cost()
	busy := m.waiting > 0 && m.waiting+cost > modelBytes
	var want error
	switch {
	case first != nil && string(first.Data) != string(p.Data):
		want = ErrKeyReused
	case first != nil:
		if err != nil || r != (Result{first.offset, true}) {
			t.Fatalf("retry of %d: %+v, %v", first.offset, r, err)
		}
	case len(p.Data) > modelLargest:
		want = ErrTooLarge
	case busy:
		want = ErrBusy
	default:
		if err != nil || r != (Result{end + 1, false}) {
			t.Fatalf("append after %d: %+v, %v", end, r, err)
		}
		m.log = append(m.log, landed{p, r.Offset, clock})
		m.waiting += cost
		return
	}
	if !errors.Is(err, want) {
		t.Fatalf("append: %v, want %v", err, want)
	}
	if m.End() != end {
		t.Fatalf("a refused or repeated publication moved the end from %d to %d", end, m.End())
	}
}

func (m *model) commit(t *rapid.T, upto uint64) {
	before := m.Committed()
	passed := m.Commit(upto)
	if want := max(before, min(upto, m.End())); m.Committed() != want || len(passed) != int(want-before) {
		t.Fatalf("commit of %d after %d: at %d with %d entries", upto, before, m.Committed(), len(passed))
	}
	m.committed = append(m.committed, passed...)
	for _, e := range passed {
		m.waiting -= e.Cost()
	}
}

// checkState compares what is committed with what was appended.
func (m *model) checkState(t *rapid.T) {
	last := map[string]uint64{}
	for i, e := range m.committed {
		l := m.log[i]
		if e.Offset != base+uint64(i)+1 || e.Offset != l.offset || e.Channel != l.Channel ||
			e.Key != l.Key || string(e.Data) != string(l.Data) || e.Time != l.time.UnixMilli() {
			t.Fatalf("committed %+v, appended %+v", e, l)
		}
		if e.Prev < last[e.Channel] || last[e.Channel] != 0 && e.Prev != last[e.Channel] {
			t.Fatalf("%+v: prev, want %d", e, last[e.Channel])
		}
		last[e.Channel] = e.Offset
	}
	if got := retained(m.Slot); !same(got, m.committed) {
		t.Fatalf("history has %d entries, %d are committed", len(got), len(m.committed))
	}
}

func TestSlotAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{now: start(), Slot: newSlot(func(c *Config) {
			c.UncommittedBytes = modelBytes
			c.Keys = modelKeys
			c.KeyWindow = modelWindow
			c.Retention.Class = func(string) history.Class {
				return history.Class{Messages: 1000, MessageBytes: modelLargest}
			}
		})}
		publication := rapid.Custom(func(t *rapid.T) Publication {
			return Publication{
				Channel: rapid.SampledFrom([]string{"/a", "/b"}).Draw(t, "channel"),
				Key:     rapid.SampledFrom([]string{"", "1", "2", "3", "4", "5"}).Draw(t, "key"),
				Data:    []byte(fmt.Sprintf("%0*d", rapid.IntRange(1, 9).Draw(t, "size"), rapid.IntRange(0, 1).Draw(t, "data"))),
			}
		})
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) { m.append(t, publication.Draw(t, "publication")) },
			"retry": func(t *rapid.T) {
				if len(m.log) > 0 {
					m.append(t, rapid.SampledFrom(m.log).Draw(t, "which").Publication)
				}
			},
			"commit": func(t *rapid.T) { m.commit(t, rapid.Uint64Range(base, m.End()+2).Draw(t, "upto")) },
			"pass": func(t *rapid.T) {
				m.now = m.now.Add(time.Duration(rapid.IntRange(-20, 40).Draw(t, "seconds")) * time.Second)
			},
			"": m.checkState,
		})
	})
}
