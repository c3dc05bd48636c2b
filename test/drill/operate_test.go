package drill

import (
	"context"
	"fmt"
	"os/exec"

	"github.com/comet-push/comet/internal/shard"
)

// What operators do to slots while all are in use, by the command line.

// moved is how many slots are moved by name, one after the other.
const moved = 12

// slots runs comet slots, which asks a broker. Not in its container: starting a
// process there takes longer than all that it does.
func (r *run) slots(ctx context.Context, at *node, args ...string) error {
	command := exec.CommandContext(ctx, r.comet, append([]string{"slots", "--server=" + at.GRPC}, args...)...)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("comet slots %v: %w\n%s", args, err, out)
	}
	return nil
}

// moves has every broker in turn lead slots that are published to.
func (r *run) moves(ctx context.Context) error {
	for i, channel := range r.channels[:moved] {
		slot := fmt.Sprint(shard.Of(channel))
		if err := r.slots(ctx, r.brokers[i%2], "move", slot, r.brokers[i%len(r.brokers)].Name); err != nil {
			return err
		}
	}
	return nil
}

// empties takes all slots from the broker that leads the most, and gives it
// some again.
func (r *run) empties(ctx context.Context) error {
	b, err := r.busiest()
	if err != nil {
		return err
	}
	if err := r.slots(ctx, r.brokers[0], "drain", b.Name); err != nil {
		return err
	}
	for _, role := range []string{"primary", "backup"} {
		err := within(ctx, ready, func() error { // it may be behind the broker that said so
			n, err := b.Metric(fmt.Sprintf(`comet_broker_slots{role=%q}`, role))
			if err == nil && n != 0 {
				err = fmt.Errorf("%s is drained and has %v slots as %s", b.Name, n, role)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if err := r.slots(ctx, r.brokers[1], "undrain", b.Name); err != nil {
		return err
	}
	return within(ctx, ready, func() error {
		led, err := b.Metric(`comet_broker_slots{role="primary"}`)
		if err == nil && led == 0 {
			err = fmt.Errorf("%s is undrained and leads nothing", b.Name)
		}
		return err
	})
}
