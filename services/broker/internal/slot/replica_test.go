package slot_test

import (
	"testing"
	"time"

	"github.com/comet-push/comet/services/broker/internal/history"
	"github.com/comet-push/comet/services/broker/internal/replica"
	"github.com/comet-push/comet/services/broker/internal/slot"
)

var _ replica.Log = (*slot.Slot)(nil)

func TestOneCopyCommitsAtOnce(t *testing.T) {
	const base = 5000
	var set replica.Set = replica.Sole{}
	s := slot.New(slot.Config{Term: 7, Base: base, Retention: history.Config{
		Class: func(string) history.Class { return history.Class{Messages: 100} },
	}})
	for want := uint64(base + 1); want < base+4; want++ {
		if _, err := s.Append(slot.Publication{Channel: "/a", Data: []byte("1")}, time.Unix(1_700_000_000, 0)); err != nil {
			t.Fatal(err)
		}
		passed := s.Commit(set.Appended(s.End()))
		if len(passed) != 1 || passed[0].Offset != want || passed[0].Prev != want-1 || passed[0].Term != 7 {
			t.Fatalf("committed %+v, want offset %d", passed, want)
		}
	}
	if s.Committed() != base+3 {
		t.Errorf("committed %d, want %d", s.Committed(), base+3)
	}
}
