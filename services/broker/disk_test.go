package broker_test

import (
	"fmt"
	"slices"
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

// TestWholeClusterRestarts stops all brokers, by a crash or one after the
// other, and starts them again in every order.
func TestWholeClusterRestarts(t *testing.T) {
	for _, test := range []struct {
		name   string
		stop   func(m *member)
		orders [][]int
	}{
		{"crash", func(m *member) { m.kill(); <-m.done }, [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}},
		{"drain", (*member).drain, [][]int{{0, 1, 2}, {2, 1, 0}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, m := durable(t, 2, "a", "b", "c")
				at := map[string]uint64{}
				for _, channel := range manyChannels(30) {
					at[channel] = m[0].publish(channel, "0")
				}
				for round, order := range test.orders {
					keyed := fmt.Sprint(round + 1)
					for channel := range at {
						resp, err := m[round%3].try(t.Context(), channel, keyed, keyed)
						if err != nil {
							t.Fatal(err)
						}
						if since := at[channel]; resp.GetPosition() <= since {
							t.Fatalf("%s goes on at %d after %d", channel, resp.GetPosition(), since)
						}
						m[0].since(at[channel], channel, keyed)
						at[channel] = resp.GetPosition()
					}
					for _, x := range m {
						test.stop(x)
					}
					for i, from := range order {
						m[i] = c.launch(string(rune('a' + from)))
					}
					c.settled(m...)
					for channel, position := range at {
						m[1].since(position-1, channel, keyed)
						again, err := m[2].try(t.Context(), channel, keyed, keyed)
						if err != nil || !again.GetDuplicate() || again.GetPosition() != position {
							t.Fatalf("%s again: %v, %v", channel, again, err)
						}
					}
				}
			})
		})
	}
}

// durable starts brokers with disks.
func durable(t *testing.T, replicas int, names ...string) (*cluster, []*member) {
	t.Helper()
	c := newCluster(t)
	c.disks = map[string]*vfs.MemFS{}
	c.config.Replicas = replicas
	var m []*member
	for _, name := range names {
		m = append(m, c.start(name))
	}
	c.settled(m...)
	return c, m
}

// since reads what came after a position.
func (m *member) since(position uint64, channel string, want ...string) {
	m.t.Helper()
	page, err := m.pubsub.History(m.t.Context(), &pubsubv1.HistoryRequest{Channel: channel, Since: fmt.Sprint(position)})
	var got []string
	for _, message := range page.GetMessages() {
		got = append(got, string(message.GetData()))
	}
	if err != nil || !slices.Equal(got, want) {
		m.t.Fatalf("%s since %d: %q, %v, want %q", channel, position, got, err, want)
	}
}

// TestRestartCatchesUpByLog crashes a broker; what it missed it gets from the
// log, and no more than that.
func TestRestartCatchesUpByLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, m := durable(t, 3, "a", "b", "c")
		channels := manyChannels(30)
		for _, channel := range channels {
			m[0].publish(channel, "1")
		}
		before := m[0].counted()["comet_broker_snapshots_total"] + m[2].counted()["comet_broker_snapshots_total"]
		id := m[1].node.ID
		m[1].kill()
		<-m[1].done
		for _, channel := range channels {
			m[0].publish(channel, "2")
		}
		m[1] = c.start("b")
		c.settled(m...)
		if m[1].node.ID != id {
			t.Error("it came back as another member")
		}
		after := m[0].counted()["comet_broker_snapshots_total"] + m[2].counted()["comet_broker_snapshots_total"]
		if after != before {
			t.Errorf("%v snapshots were sent", after-before)
		}
		m[0].kill()
		m[2].kill()
		for _, channel := range channels {
			m[1].publish(channel, "3")
		}
	})
}
