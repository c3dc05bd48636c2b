package broker_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"

	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/services/broker"
)

// open opens the member's data directory, if it has a disk.
func (m *member) open() {
	if m.disks == nil {
		return
	}
	if m.disks[m.name] == nil {
		m.disks[m.name] = vfs.NewCrashableMem()
	}
	var err error
	m.disk, err = broker.OpenDisk(broker.DiskConfig{Dir: "/data", FS: m.disks[m.name]})
	if err != nil {
		m.t.Fatal(err)
	}
	m.node.ID, m.node.Durable = m.disk.ID(), true
}

// TestWholeClusterRestarts stops all brokers, at once, one after the other, or
// by a crash, and starts them again in every order.
func TestWholeClusterRestarts(t *testing.T) {
	orders := [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}
	for _, order := range orders {
		for _, stop := range []string{"crash", "drain"} {
			t.Run(fmt.Sprint(stop, order), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { restart(t, stop, order) })
			})
		}
	}
}

func restart(t *testing.T, stop string, order []int) {
	c := newCluster(t)
	c.disks = map[string]*vfs.MemFS{}
	c.config.Replicas = 2
	names := []string{"a", "b", "c"}
	var m []*member
	for _, name := range names {
		m = append(m, c.start(name))
	}
	c.settled(m...)
	positions := map[string]uint64{}
	channels := manyChannels(30)
	for i, channel := range channels {
		resp, err := m[i%3].try(t.Context(), channel, "1", "k")
		if err != nil {
			t.Fatal(err)
		}
		positions[channel] = resp.GetPosition()
		m[i%3].publish(channel, "2")
	}
	for _, x := range m {
		if stop == "crash" {
			x.kill()
			<-x.done
		} else {
			x.drain()
		}
	}
	for i, at := range order {
		m[i] = c.launch(names[at])
	}
	c.settled(m...)
	for _, channel := range channels {
		since := fmt.Sprint(positions[channel])
		page, err := m[0].pubsub.History(t.Context(), &pubsubv1.HistoryRequest{Channel: channel, Since: since})
		if err != nil || len(page.GetMessages()) != 1 || string(page.GetMessages()[0].GetData()) != "2" {
			t.Fatalf("%s after %s: %v, %v", channel, since, page, err)
		}
		again, err := m[1].try(context.Background(), channel, "1", "k")
		if err != nil || !again.GetDuplicate() || again.GetPosition() != positions[channel] {
			t.Fatalf("the first of %s again: %v, %v", channel, again, err)
		}
		if next := m[2].publish(channel, "3"); next <= positions[channel] {
			t.Fatalf("%s goes on at %d after %d", channel, next, positions[channel])
		}
	}
}
