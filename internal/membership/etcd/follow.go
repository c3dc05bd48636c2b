package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
)

// maxBehind is how many probes in a row a watch may lag behind.
const maxBehind = 3

var (
	errBehind = errors.New("the watch fell behind")
	errBack   = errors.New("the store is at an earlier revision than before: it lost data, or is another one")
)

// follow lists everything and then watches it, until ctx ends or it is in
// doubt whether nothing is missed.
func (d *Directory) follow(ctx context.Context) error {
	m, err := d.list(ctx)
	if err != nil {
		return err
	}
	d.link.answered()
	d.views.Show(m.view())

	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	late := time.AfterFunc(callTimeout, cancel) // Watch waits for etcd to confirm it
	changes := d.client.Watch(ctx, d.keys.all(), clientv3.WithPrefix(), clientv3.WithRev(m.revision+1))
	if !late.Stop() {
		return errors.New("watch etcd: not confirmed in time")
	}
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	var due int64 // what the watch should have reached
	for behind := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case resp, ok := <-changes:
			if !ok {
				return errors.New("watch etcd: ended")
			}
			if err := resp.Err(); err != nil {
				return fmt.Errorf("watch etcd: %w", err)
			}
			if m.apply(resp) {
				d.views.Show(m.view())
			}
		case <-tick.C:
			if m.revision >= due {
				behind = 0
			} else if behind++; behind == maxBehind {
				return errBehind
			}
			if due, err = d.probe(ctx); err != nil {
				return err
			}
			if due < m.revision {
				return errBack
			}
		}
	}
}

// probe asks a quorum for the store's revision, and the watch for its own.
func (d *Directory) probe(ctx context.Context) (revision int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := d.client.Get(ctx, d.keys.probe(), clientv3.WithCountOnly())
	if err != nil {
		return 0, fmt.Errorf("probe etcd: %w", err)
	}
	if err := d.client.RequestProgress(ctx); err != nil {
		return 0, fmt.Errorf("ask the watch for its progress: %w", err)
	}
	return resp.Header.GetRevision(), nil
}

// list reads everything at one revision.
func (d *Directory) list(ctx context.Context) (*mirror, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := d.client.Get(ctx, d.keys.all(), clientv3.WithPrefix())
	if err != nil {
		return nil, fmt.Errorf("list the directory: %w", err)
	}
	m := &mirror{
		keys: d.keys, log: d.log, revision: resp.Header.GetRevision(),
		nodes: make(map[string]announced), rows: make(map[shard.Slot]shard.Row),
		holders: make(map[shard.PresenceShard]shard.Holders),
	}
	for _, kv := range resp.Kvs {
		m.put(kv)
	}
	return m, nil
}

// mirror is the store at a revision. It belongs to one follow.
type mirror struct {
	keys     keys
	log      *slog.Logger
	revision int64
	nodes    map[string]announced // by key
	rows     map[shard.Slot]shard.Row
	holders  map[shard.PresenceShard]shard.Holders
	presence *shard.HolderTable // of these; nil: they changed
}

type announced struct {
	node  membership.Node
	since int64 // the revision its key was made at
}

// apply takes the watch's news and reports whether there are any.
func (m *mirror) apply(resp clientv3.WatchResponse) bool {
	if resp.IsProgressNotify() {
		m.revision = max(m.revision, resp.Header.GetRevision())
		return false
	}
	for _, e := range resp.Events {
		m.revision = max(m.revision, e.Kv.ModRevision)
		if e.Type == clientv3.EventTypeDelete {
			m.drop(string(e.Kv.Key))
		} else {
			m.put(e.Kv)
		}
	}
	return len(resp.Events) > 0
}

func (m *mirror) put(kv *mvccpb.KeyValue) {
	key := string(kv.Key)
	if strings.HasPrefix(key, m.keys.nodes()) {
		var n membership.Node
		err := json.Unmarshal(kv.Value, &n)
		if err == nil && m.keys.node(n.Member()) != key {
			err = errors.New("the key names another member")
		}
		if err != nil {
			m.log.Warn("node ignored", slog.String("key", key), slog.Any("error", err))
			return
		}
		m.nodes[key] = announced{n, kv.CreateRevision}
	}
	if s, ok := m.keys.slotOf(key); ok {
		row, err := shard.ParseRow(kv.Value, kv.ModRevision)
		if err != nil {
			// Its version still counts, so that the controller can replace it.
			m.log.Warn("slot row not understood", slog.String("key", key), slog.Any("error", err))
			row = shard.Row{Version: kv.ModRevision}
		}
		m.rows[s] = row
	}
	if s, ok := m.keys.shardOf(key); ok {
		holders, err := shard.ParseHolders(kv.Value, kv.ModRevision)
		if err != nil {
			m.log.Warn("holders of a presence shard not understood", slog.String("key", key), slog.Any("error", err))
			holders = shard.Holders{Version: kv.ModRevision}
		}
		m.holders[s], m.presence = holders, nil
	}
}

func (m *mirror) drop(key string) {
	delete(m.nodes, key)
	if s, ok := m.keys.slotOf(key); ok {
		delete(m.rows, s)
	}
	if s, ok := m.keys.shardOf(key); ok {
		delete(m.holders, s)
		m.presence = nil
	}
}

func (m *mirror) view() membership.View {
	nodes := make(map[string]membership.Node, len(m.nodes))
	since := make(map[string]int64, len(m.nodes))
	for _, a := range m.nodes {
		if a.since > since[a.node.Name] {
			nodes[a.node.Name], since[a.node.Name] = a.node, a.since
		}
	}
	if m.presence == nil {
		m.presence = new(shard.HolderTable).With(m.holders)
	}
	return membership.View{Nodes: nodes, Table: new(shard.Table).With(m.rows), Presence: m.presence, Connected: true}
}
