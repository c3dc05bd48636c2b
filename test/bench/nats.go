package bench

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/comet-push/comet/test/internal/cluster"
)

// natsBinary is where make puts nats-server.
const natsBinary = "../../.bin/nats-server"

// natsCluster is some nats-servers with JetStream on loopback.
type natsCluster struct {
	pids []int
	urls []string
}

// startNATS starts them; nil if there is no nats-server.
func startNATS(b *testing.B, servers int) *natsCluster {
	b.Helper()
	binary, err := filepath.Abs(natsBinary)
	if err == nil {
		_, err = exec.LookPath(binary)
	}
	if err != nil {
		b.Logf("left out NATS: %v; make bench builds it", err)
		return nil
	}
	c := &natsCluster{}
	clients, routes := cluster.Ports(b, servers), cluster.Ports(b, servers)
	var all []string
	for _, port := range routes {
		all = append(all, fmt.Sprintf("nats://127.0.0.1:%d", port))
	}
	for i := range servers {
		addr := fmt.Sprintf("127.0.0.1:%d", clients[i])
		config := cluster.Config(b, fmt.Sprintf(`server_name: nats-%d
listen: %q
jetstream {store_dir: %q, max_memory_store: 8GB}
cluster {name: bench, listen: "127.0.0.1:%d", routes: [%s]}
`, i, addr, b.TempDir(), routes[i], strings.Join(all, ", ")))
		c.pids = append(c.pids, run(b, "nats-server", addr, exec.Command(binary, "--config", config)))
		c.urls = append(c.urls, "nats://"+addr)
	}
	return c
}

// stream makes a replicated stream in memory, for all channels, and returns it
// as a system. With ids messages have some, and those that come again with
// theirs are known.
func (c *natsCluster) stream(b *testing.B, ids bool) *system {
	b.Helper()
	nc, js := c.dial(b, 0)
	cluster.Eventually(b, 30*time.Second, "a stream", func() error {
		ctx, cancel := context.WithTimeout(b.Context(), 5*time.Second)
		defer cancel()
		_, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
			Name: "bench", Subjects: []string{"bench.*"},
			Storage: jetstream.MemoryStorage, Replicas: 3, MaxBytes: 512 << 20,
		})
		return err
	})
	nc.Close()
	subjects := make([]string, loadChannels)
	for channel := range subjects {
		subjects[channel] = fmt.Sprintf("bench.%d", channel)
	}
	name := "JetStream"
	if ids {
		name += " with ids"
	}
	return &system{
		name: name, pids: c.pids,
		connect: func(_ context.Context, publisher int, acked func(int, error)) (func(int, int, []byte) error, error) {
			tell := func(m *nats.Msg, err error) {
				number, invalid := numberOf(m.Data)
				if invalid != nil {
					panic(invalid) // nobody measures what does not work
				}
				acked(number, err)
			}
			_, js := c.dial(b, publisher,
				jetstream.WithPublishAsyncMaxPending(2*loadWindow), // it is bounded before
				jetstream.WithPublishAsyncAckHandler(func(_ jetstream.JetStream, m *nats.Msg, _ *jetstream.PubAck) { tell(m, nil) }),
				jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, m *nats.Msg, err error) { tell(m, err) }))
			sent := 0
			return func(_, channel int, data []byte) error {
				var opts []jetstream.PublishOpt
				if sent++; ids {
					opts = []jetstream.PublishOpt{jetstream.WithMsgID(fmt.Sprintf("%d-%d", publisher, sent))}
				}
				_, err := js.PublishAsync(subjects[channel], data, opts...)
				return err
			}, nil
		},
	}
}

func (c *natsCluster) dial(b *testing.B, client int, opts ...jetstream.JetStreamOpt) (*nats.Conn, jetstream.JetStream) {
	b.Helper()
	nc, err := nats.Connect(c.urls[client%len(c.urls)])
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	js, err := jetstream.New(nc, opts...)
	if err != nil {
		b.Fatal(err)
	}
	return nc, js
}
