package membership

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/membership/etcd"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/test/internal/cluster"
)

// door is one of several ways to an etcd: for its clients, a member of it.
type door struct {
	*gate
	name string
}

// Network implements [net.Addr].
func (d *door) Network() string { return "tcp" }

// String implements [net.Addr].
func (d *door) String() string { return d.name }

// through is a connection through a door, at the other end of which is the door.
type through struct {
	net.Conn
	door *door
}

// RemoteAddr implements [net.Conn].
func (t *through) RemoteAddr() net.Addr { return t.door }

// doors are members of etcd, as clients see them.
func doors(t *testing.T, server *cluster.Etcd, names ...string) (map[string]*door, etcd.Config) {
	t.Helper()
	all := map[string]*door{}
	for _, name := range names {
		all[name] = &door{newGate(true), name}
	}
	return all, etcd.Config{Endpoints: names, Dial: func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := all[addr].dial(ctx, strings.TrimPrefix(server.URL, "http://"))
		if err != nil {
			return nil, err
		}
		return &through{conn, all[addr]}, nil
	}}
}

// TestMemberHangs has one member of three take everything and answer nothing:
// nodes stay announced, nobody counts as cut off, and rows are written.
func TestMemberHangs(t *testing.T) {
	inParallel(t, func(t *testing.T) {
		server := cluster.NewEtcd(t)
		server.Start(t)
		all, cfg := doors(t, server, "etcd-0:2379", "etcd-1:2379", "etcd-2:2379")
		d := open(t, cfg)
		watching := open(t, etcd.Config{Endpoints: []string{server.URL}})
		own, views := d.Watch(t.Context()), watching.Watch(t.Context())
		register(t, d, broker)
		await(t, views, "announced", announced(broker))
		await(t, own, "announced here, too", announced(broker))
		leads, err := d.Campaign(t.Context(), broker.Member())
		if err != nil {
			t.Fatal(err)
		}
		defer leads.Resign(t.Context())

		all["etcd-1:2379"].close(true)
		defer all["etcd-1:2379"].close(false)
		const noticed, lasts = 4 * time.Second, 12 * time.Second
		row := shard.Row{Term: 1, Primary: broker.Member(), InSync: []string{broker.Member()}, Base: 1 << 21}
		failed, slowest := 0, time.Duration(0)
		for began, s := time.Now(), shard.Slot(0); time.Since(began) < lasts; s++ {
			asked := time.Now()
			err := leads.Write(t.Context(), membership.Change{Slot: s, Row: row})
			if err != nil {
				failed++
			}
			took := time.Since(asked)
			slowest = max(slowest, took)
			if time.Since(began) > noticed && (err != nil || took > time.Second) {
				t.Errorf("%v after the member hung: a row took %v, error %v", time.Since(began), took, err)
			}
			for _, view := range latest(own, views) {
				if !announced(broker)(view) {
					t.Errorf("%v after the member hung: connected %v, and %v is announced", time.Since(began), view.Connected, view.Nodes)
				}
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Logf("%d rows were not written, the slowest took %v", failed, slowest)
	})
}

// latest are the views that are there to be taken.
func latest(all ...<-chan membership.View) (views []membership.View) {
	for _, c := range all {
		select {
		case v := <-c:
			views = append(views, v)
		default:
		}
	}
	return views
}
