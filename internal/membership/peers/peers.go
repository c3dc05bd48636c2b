// Package peers is a directory for a node that may be cut off from the store,
// but not from the brokers: they know who owns the slots by now.
//
//  1. While the store is in reach, views are the store's.
//  2. While it is not, brokers are asked in turn, and rows of a higher version
//     than the last view's replace those. Connected stays false, and nodes and
//     the holders of presence shards stay as they were.
//  3. Every row that is told was in the store: somebody read it there. Everything
//     but Watch asks the store alone.
//  4. Views only move forward, as the store's do.
package peers

import (
	"context"
	"log/slog"
	"sync"
	"time"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
)

const (
	// askEvery is the pause between two questions.
	askEvery = 250 * time.Millisecond
	// answerTimeout is how long a broker may take.
	answerTimeout = time.Second
)

// Directory implements [membership.Directory] while its Run runs.
type Directory struct {
	membership.Directory

	self   string
	conns  *rpc.Pool
	logger *slog.Logger
	views  membership.Latest
}

// New returns a directory that asks brokers, over conns, what it cannot learn
// from store. Self is this node's name, which it does not ask.
func New(store membership.Directory, self string, conns *rpc.Pool, logger *slog.Logger) *Directory {
	return &Directory{Directory: store, self: self, conns: conns, logger: logger}
}

// Watch implements [membership.Directory].
func (d *Directory) Watch(ctx context.Context) <-chan membership.View { return d.views.Watch(ctx) }

// Run shows views until ctx ends.
func (d *Directory) Run(ctx context.Context) error {
	var asking sync.WaitGroup
	defer asking.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	views := d.Directory.Watch(ctx)
	pace := time.NewTicker(askEvery)
	defer pace.Stop()
	pace.Stop()
	var view membership.View
	heard := make(chan map[shard.Slot]shard.Row, 1)
	waiting, turn := false, 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case v, ok := <-views:
			switch {
			case !ok:
				return nil // ctx ended
			case v.Connected:
				pace.Stop()
			default:
				v.Table = v.Table.With(rows(view.Table))
				pace.Reset(askEvery)
			}
			view = v
			d.views.Show(view)
		case <-pace.C:
			brokers := d.others(view)
			if waiting || len(brokers) == 0 {
				continue
			}
			waiting, turn = true, turn+1
			broker, known := brokers[turn%len(brokers)], newest(view.Table)
			asking.Go(func() { heard <- d.ask(ctx, broker, known) })
		case news := <-heard:
			waiting = false
			if view.Connected || len(news) == 0 {
				continue
			}
			d.logger.Info("heard from another broker who owns slots, for the store is out of reach", slog.Int("slots", len(news)))
			view.Table = view.Table.With(news)
			d.views.Show(view)
		}
	}
}

// others are the brokers to ask.
func (d *Directory) others(view membership.View) []membership.Node {
	var brokers []membership.Node
	for _, n := range view.With(membership.Broker) {
		if n.Name != d.self {
			brokers = append(brokers, n)
		}
	}
	return brokers
}

// ask returns the rows that a broker knows and that are newer than a version.
// Versions count the changes of the whole store and each broker's rows are those
// of one moment, or were asked for like this: so none is missed.
func (d *Directory) ask(ctx context.Context, n membership.Node, after int64) map[shard.Slot]shard.Row {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	conn, err := d.conns.Conn(n.Addr)
	if err != nil {
		return nil
	}
	resp, err := brokerv1.NewBrokerServiceClient(conn).ListRows(ctx, &brokerv1.ListRowsRequest{After: after})
	if err != nil {
		d.logger.Debug("a broker does not tell who owns the slots", slog.String("broker", n.Member()), slog.Any("error", err))
		return nil
	}
	news := map[shard.Slot]shard.Row{}
	for _, r := range resp.GetRows() {
		row, err := shard.ParseRow(r.GetRow(), r.GetVersion())
		if err != nil || r.GetSlot() >= shard.Slots {
			d.logger.Warn("a broker told a row that is not understood", slog.String("broker", n.Member()),
				slog.Int("slot", int(r.GetSlot())), slog.Any("error", err))
			continue
		}
		news[shard.Slot(r.GetSlot())] = row
	}
	return news
}

// rows are all rows of a table.
func rows(t *shard.Table) map[shard.Slot]shard.Row {
	all := map[shard.Slot]shard.Row{}
	for n := range shard.Slot(shard.Slots) {
		all[n] = t.Row(n)
	}
	return all
}

// newest is the highest version in a table.
func newest(t *shard.Table) int64 {
	var version int64
	for n := range shard.Slot(shard.Slots) {
		version = max(version, t.Row(n).Version)
	}
	return version
}
