package session_test

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/session"
)

// goOn is what there is for sessions that move: "snapshot handed=14", "resume
// vector=14" and "behind vector=14" with the same position for all slots;
// "move"; and "restore", with "vector=14", of the last of the first two.
func (tr *transcript) goOn(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	switch d.Cmd {
	case "snapshot":
		handed := arg(t, d, "handed")
		tr.snap = tr.s.Snapshot(func(shard.Slot) uint64 { return handed })
		tr.printSnapshot()
	case "resume":
		tr.snap = tr.s.Resume(vectorOf(t, d), nil)
		tr.printSnapshot()
	case "behind":
		fmt.Fprintln(&tr.b, tr.s.Behind(vectorOf(t, d)))
	case "move":
		tr.s.Move(&tr.out)
	case "restore":
		tr.next += 100
		clear(tr.joins)
		clear(tr.pages)
		tr.s = session.Restore(tr.cfg.Defaults(), "S", "public", tr.snap, vectorOf(t, d), tr.now, &tr.out)
	}
}

func vectorOf(t *testing.T, d *datadriven.TestData) []uint64 {
	t.Helper()
	if !d.HasArg("vector") {
		return nil
	}
	vector := make([]uint64, shard.Slots)
	for i := range vector {
		vector[i] = arg(t, d, "vector")
	}
	return vector
}

func (tr *transcript) printSnapshot() {
	snap := tr.snap
	fmt.Fprintf(&tr.b, "live %v, ack %v, replay %v, transport %q, batch %d, connect %s, interval %v\n",
		snap.Live, snap.Ack, snap.Replay, snap.Transport, snap.Batch, snap.ConnectID, snap.Interval)
	for _, sub := range snap.Subscriptions {
		fmt.Fprintf(&tr.b, "subscribed %s", sub.Channel)
		if sub.Start != 0 {
			fmt.Fprintf(&tr.b, ", from %d", sub.Start)
		}
		if sub.Reads {
			fmt.Fprintf(&tr.b, ", reads, at %d", sub.Cursor)
		}
		fmt.Fprintln(&tr.b)
	}
	var last shard.Position
	slots := 0
	for _, p := range snap.Seen {
		if slots > 0 && p.Offset != last.Offset {
			fmt.Fprintf(&tr.b, "at %d in %d slots\n", last.Offset, slots)
			slots = 0
		}
		last, slots = p, slots+1
	}
	if slots > 0 {
		fmt.Fprintf(&tr.b, "at %d in %d slots\n", last.Offset, slots)
	}
	for _, i := range snap.Items {
		what := string(i.Event.JSON())
		if i.Event.Notice() {
			what = "lost " + i.Event.Channel
		}
		fmt.Fprintf(&tr.b, "item of batch %d: %s\n", i.Batch, what)
	}
}
