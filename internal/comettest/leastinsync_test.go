package comettest_test

import (
	"fmt"
	"testing"
	"time"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/config"
	"github.com/comet-push/comet/internal/rpc"
)

// TestLeastInSync leaves a primary alone in sync. With --broker.min-insync=1 it
// goes on; with 2 it refuses, and says why, until another is in sync again.
func TestLeastInSync(t *testing.T) {
	var scenarios []scenario
	for least := 1; least <= 2; least++ {
		scenarios = append(scenarios, scenario{
			name: fmt.Sprint(least), ci: least == 2,
			do:        func(w *world) { shrink(w, least) },
			configure: func(_ string, cfg *config.Config) { cfg.Broker.MinInSync = least },
		})
	}
	playAll(t, scenarios)
}

func shrink(w *world, least int) {
	primary, backup := w.primary("/calm/0"), w.backup("/calm/0")
	door := w.at(primary)
	w.Net.Partition(primary, backup)
	// In the log, when the backup is removed it is held by the primary alone.
	if _, err := door.publish(4 * time.Second); (err == nil) != (least == 1) {
		w.t.Errorf("where %d must be in sync, a publish that one of two holds: %v", least, err)
	}
	time.Sleep(time.Second)
	if row := w.audit.Row("/calm/0"); len(row.InSync) != 1 || nameOf(row.Primary) != primary {
		w.t.Fatalf("%s is not alone: %+v", primary, row)
	}
	_, err := door.publish(time.Second)
	switch under := rpc.Reason(err) == channelv1.ErrorReason_ERROR_REASON_UNDER_REPLICATED; {
	case least == 1 && err != nil:
		w.t.Errorf("alone, where one is enough: %v", err)
	case least == 2 && !under:
		w.t.Errorf("alone, where two are demanded: %v", err)
	}
	w.Net.Heal(primary, backup)
	time.Sleep(20 * time.Second)
	if _, err := door.publish(time.Second); err != nil {
		w.t.Errorf("with two in sync again: %v", err)
	}
	w.kept()
}
