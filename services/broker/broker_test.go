package broker_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
)

func (c *cluster) conn(addr string) *grpc.ClientConn {
	c.t.Helper()
	conn, err := c.pool.Conn(addr)
	if err != nil {
		c.t.Fatal(err)
	}
	return conn
}

func (m *member) publish(channel, data string) uint64 {
	m.t.Helper()
	resp, err := m.pubsub.Publish(context.Background(), &pubsubv1.PublishRequest{Channel: channel, Data: []byte(data)})
	if err != nil {
		m.t.Fatalf("publish to %s through %s: %v", channel, m.name, err)
	}
	return resp.GetPosition()
}

func TestPublishAndSubscribeThroughAnyBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		a, b := c.start("a"), c.start("b")
		c.settled(a, b)
		literal := a.subscribe("", "/news/1")
		pattern := b.subscribe("", "/news/*", "/other")
		for i := range 50 {
			channel := fmt.Sprintf("/news/%d", i%10)
			[]*member{a, b}[i%2].publish(channel, fmt.Sprint(i))
		}
		literal.want("1", "11", "21", "31", "41")
		pattern.wantSet(50)
		time.Sleep(time.Second)
	})
}
