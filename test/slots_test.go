package test

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/comet-push/comet/test/internal/cluster"
)

// TestSlots gives orders by comet slots to three brokers that take publishes
// all the time, then stops two of them and starts anew what they held.
func TestSlots(t *testing.T) {
	t.Parallel()
	c := cluster.Split(t, 0, 3, "--broker.unclean-after=never")
	c.Settle(t)
	if out := slots(t, c.Brokers[0], "list"); !strings.Contains(out, "256 slots: 256 led, 256 with 2 of 2 copies\n") {
		t.Errorf("a settled cluster:\n%s", out)
	}
	channels := make([]string, 64)
	for i := range channels {
		channels[i] = fmt.Sprintf("/orders/%d", i)
	}
	load := keepPublishing(t, c.Brokers[2], channels)
	for i, via := range c.Brokers {
		n := slotOf(t, via, func(s slotLine) bool { return !s.at("broker-0") || !s.at("broker-2") })
		to := "broker-0"
		if n.at(to) {
			to = "broker-2"
		}
		out := slots(t, via, "move", strconv.Itoa(n.Slot), to)
		if !strings.Contains(out, fmt.Sprintf("slot %d is led by %s, in term ", n.Slot, to)) {
			t.Errorf("move %d: %s", i, out)
		}
	}

	out := slots(t, c.Brokers[0], "drain", "broker-1")
	if !strings.Contains(out, "broker-1 is empty: 0 slots count on it, 0 of them are led by it") {
		t.Errorf("drain: %s", out)
	}
	list := slots(t, c.Brokers[1], "brokers")
	t.Logf("after the drain:\n%s", list)
	if !strings.Contains(list, "broker-1  draining  -     0      0") || !strings.Contains(list, "3 brokers: 2 serving, 1 draining") {
		t.Errorf("after the drain:\n%s", list)
	}
	if refused, ok := trySlots(t, c.Brokers[0], "move", "7", "broker-1"); ok || !strings.Contains(refused, "broker-1 drains") {
		t.Errorf("a move to who drains: %s", refused)
	}
	c.Brokers[1].Ready(t, 5*time.Second)
	slots(t, c.Brokers[2], "undrain", "broker-1")
	c.Settle(t)
	load.end(t)
	recoverSlots(t, c)
}

// recoverSlots freezes all who hold some slots.
func recoverSlots(t *testing.T, c *cluster.Topology) {
	t.Helper()
	left := c.Brokers[0]
	for _, p := range c.Brokers[1:] {
		p.Signal(t, syscall.SIGSTOP)
	}
	var list string
	cluster.Eventually(t, time.Minute, "slots wait", func() error {
		if list = slots(t, left, "list", "--leaderless"); !strings.Contains(list, " wait for return: ") {
			return fmt.Errorf("it says:\n%s", list)
		}
		return nil
	})
	t.Logf("with two frozen:\n%s", list)
	n := slotOf(t, left, func(s slotLine) bool { return s.State == "SLOT_STATE_LEADERLESS" })
	if out, ok := trySlots(t, left, "recover", strconv.Itoa(n.Slot)); ok || !strings.Contains(out, "--accept-data-loss") {
		t.Errorf("recover without acceptance: %s", out)
	}
	out := slots(t, left, "recover", strconv.Itoa(n.Slot), "--accept-data-loss")
	var slot int
	var base uint64
	if _, err := fmt.Sscanf(out, "slot %d starts anew at broker-0, after position %d", &slot, &base); err != nil || slot != n.Slot || base <= n.base(t) {
		t.Errorf("slot %d of base %s: %s, %v", n.Slot, n.Base, out, err)
	}
	for _, p := range c.Brokers[1:] {
		p.Signal(t, syscall.SIGCONT)
	}
	c.Settle(t)
	if now := slotOf(t, left, func(s slotLine) bool { return s.Slot == n.Slot }); now.base(t) != base {
		t.Errorf("with all back: %+v, want base %d", now, base)
	}
}

// trySlots runs comet slots against a broker; ok if it succeeds.
func trySlots(t testing.TB, p *cluster.Process, args ...string) (out string, ok bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, cluster.Binary(t), append(append([]string{"slots"}, args...), "--server="+p.GRPC)...)
	text, err := cmd.CombinedOutput()
	return string(text), err == nil
}

// slots runs comet slots, which must succeed.
func slots(t testing.TB, p *cluster.Process, args ...string) string {
	t.Helper()
	out, ok := trySlots(t, p, args...)
	if !ok {
		t.Fatalf("comet slots %s: %s", strings.Join(args, " "), out)
	}
	return out
}

// slotLine is a slot as comet slots list prints it for programs.
type slotLine struct {
	Slot    int
	State   string
	Base    string
	Desired []string
}

func (s slotLine) at(broker string) bool {
	for _, m := range s.Desired {
		if strings.HasPrefix(m, broker+"@") {
			return true
		}
	}
	return false
}

func (s slotLine) base(t testing.TB) uint64 {
	t.Helper()
	base, err := strconv.ParseUint(s.Base, 10, 64)
	if err != nil {
		t.Fatalf("%+v: %v", s, err)
	}
	return base
}

// slotOf is the first slot of a kind.
func slotOf(t testing.TB, p *cluster.Process, is func(slotLine) bool) slotLine {
	t.Helper()
	var list struct{ Slots []slotLine }
	if err := json.Unmarshal([]byte(slots(t, p, "list", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	for _, s := range list.Slots {
		if is(s) {
			return s
		}
	}
	t.Fatal("no such slot")
	return slotLine{}
}

// publishing publishes until it is ended.
type publishing struct {
	stop chan struct{}
	done chan struct{}
	sent int
	err  error // the first one
}

func keepPublishing(t testing.TB, p *cluster.Process, channels []string) *publishing {
	t.Helper()
	load := &publishing{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(load.done)
		for load.err == nil {
			select {
			case <-load.stop:
				return
			default:
			}
			r := traffic(t, p, channels, time.Second)
			load.sent += r.sent
			if len(r.errs) > 0 {
				load.err = r.errs[0]
			}
		}
	}()
	return load
}

func (p *publishing) end(t testing.TB) {
	t.Helper()
	close(p.stop)
	<-p.done
	if p.err != nil || p.sent == 0 {
		t.Errorf("after %d publishes: %v", p.sent, p.err)
	}
}
