package placement

import (
	"fmt"
	"slices"

	"github.com/comet-push/comet/internal/shard"
)

// Orders are what operators want; they stand until they are taken away. The
// zero value is none.
type Orders struct {
	// Recover are slots that nobody leads and that are to start anew, although
	// what was acknowledged may still be somewhere.
	Recover map[shard.Slot]bool
	// Move says which broker, by name, is to lead a slot.
	Move map[shard.Slot]string
}

// CheckRecover says why a slot cannot be recovered.
func (v View) CheckRecover(n shard.Slot) error {
	row := v.Table.Row(n)
	switch {
	case n >= shard.Slots:
		return fmt.Errorf("there is no slot %d", n)
	case row.Primary == "":
		return fmt.Errorf("slot %d was never assigned; it will be without an order", n)
	}
	for _, m := range inSync(row) {
		if v.announces(m) {
			return fmt.Errorf("slot %d needs no recovery: %s is there and holds everything", n, m)
		}
	}
	return v.checkHosts()
}

// CheckMove says why a broker cannot be made to lead a slot.
func (v View) CheckMove(n shard.Slot, broker string) error {
	row := v.Table.Row(n)
	switch i := slices.IndexFunc(v.Brokers, func(b Broker) bool { return name(b.Member) == broker }); {
	case n >= shard.Slots:
		return fmt.Errorf("there is no slot %d", n)
	case i < 0:
		return fmt.Errorf("there is no broker named %s", broker)
	case v.Brokers[i].Draining:
		return fmt.Errorf("broker %s drains and takes no slots", broker)
	case !v.announces(row.Primary):
		return fmt.Errorf("slot %d cannot be moved: its primary is not there", n)
	}
	return nil
}

func (v View) checkHosts() error {
	if slices.ContainsFunc(v.Brokers, func(b Broker) bool { return !b.Draining }) {
		return nil
	}
	return fmt.Errorf("all %d brokers drain", len(v.Brokers))
}

func (v View) announces(member string) bool {
	return slices.ContainsFunc(v.Brokers, func(b Broker) bool { return b.Member == member })
}
