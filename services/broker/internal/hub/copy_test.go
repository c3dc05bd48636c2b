package hub

import (
	"testing"

	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
)

// A copy takes followers that ask for one in its term, and no others.
func TestCopiesAreForThoseWhoAskForThem(t *testing.T) {
	b := newBroker(history.Class{Messages: 10})
	channel := sharing(17, "a", 1)[0]
	o := b.serve(17)
	o.mu.Lock()
	o.fan = b.hub.AddCopy(17, &o.mu, led{o.log, o})
	o.mu.Unlock()
	f := b.hub.Attach(1 << 20)
	defer f.Close()
	for _, test := range []struct {
		copy   uint64
		opened bool
	}{{0, false}, {o.log.Term() - 1, false}, {o.log.Term() + 1, false}, {o.log.Term(), true}, {0, false}} {
		if err := f.Open(17, Start{Copy: test.copy}); err != nil {
			t.Fatal(err)
		}
		items := f.Items()
		_, opened := items[len(items)-1].Frame.(Opened)
		if len(items) != 1 || opened != test.opened || o.followed() != test.opened {
			t.Errorf("copy %d of term %d: %+v, followed %v", test.copy, o.log.Term(), items, o.followed())
		}
	}
	if err := f.Open(17, Start{Copy: o.log.Term()}); err != nil {
		t.Fatal(err)
	}
	if err := f.Join(1, channel); err != nil {
		t.Fatal(err)
	}
	f.Items()
	b.publish(channel)
	if items := f.Items(); len(items) != 1 || items[0].Entry == nil {
		t.Errorf("published %+v", items)
	}
}

// Who shuts a slot gets nothing of it any more, nothing else is changed, and it
// can be opened again.
func TestShut(t *testing.T) {
	b := newBroker(history.Class{Messages: 10})
	gone, stays := sharing(17, "a", 1)[0], sharing(42, "a", 1)[0]
	slots := map[shard.Slot]*owned{17: b.serve(17), 42: b.serve(42)}
	f := b.hub.Attach(1 << 20)
	defer f.Close()
	for id, channel := range []string{gone, stays} {
		if err := f.Open(shard.Of(channel), Start{}); err != nil {
			t.Fatal(err)
		}
		if err := f.Join(uint64(id), channel); err != nil {
			t.Fatal(err)
		}
	}
	f.Items()
	for range 2 {
		if err := f.Shut(17); err != nil {
			t.Fatal(err)
		}
		b.publish(gone, stays)
		items := f.Items()
		if len(items) != 1 || items[0].Slot != 42 || slots[17].followed() || !slots[42].followed() {
			t.Errorf("%+v", items)
		}
	}
	if err := f.Open(17, Start{}); err != nil {
		t.Fatal(err)
	}
	if err := f.Join(0, gone); err != nil {
		t.Fatal(err)
	}
	f.Items()
	b.publish(gone)
	if items := f.Items(); len(items) != 1 || items[0].Slot != 17 {
		t.Errorf("opened again: %+v", items)
	}
	if err := f.Shut(shard.Slots); err == nil {
		t.Error("there is no such slot")
	}
}

func (o *owned) followed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.fan.Followed()
}
