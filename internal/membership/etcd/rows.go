package etcd

import (
	"context"
	"crypto/rand"
	"encoding"
	"encoding/hex"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
)

var (
	errNoSlot  = errors.New("no such slot")
	errNoShard = errors.New("no such presence shard")
	// errGuard: what a swap compared besides its change did not hold.
	errGuard = errors.New("the guard of the change does not hold")
)

// Swap implements [membership.Directory].
func (d *Directory) Swap(ctx context.Context, c membership.Change) (version int64, err error) {
	version, err = d.swap(ctx, c)
	if err != nil {
		return 0, fmt.Errorf("swap slot %d: %w", c.Slot, err)
	}
	return version, nil
}

// swap writes a slot's row if the change's conditions hold, and the guards.
func (d *Directory) swap(ctx context.Context, c membership.Change, guards ...clientv3.Cmp) (version int64, err error) {
	if c.Slot >= shard.Slots {
		return 0, errNoSlot
	}
	return d.replace(ctx, replacement{d.keys.slot(c.Slot), c.Row, c.Row.Version, c.Absent, c.Present}, guards...)
}

// swapHolders does the same with a presence shard's.
func (d *Directory) swapHolders(ctx context.Context, c membership.HoldersChange, guards ...clientv3.Cmp) (version int64, err error) {
	if c.Shard >= shard.PresenceShards {
		return 0, errNoShard
	}
	return d.replace(ctx, replacement{d.keys.holders(c.Shard), c.Holders, c.Holders.Version, c.Absent, c.Present}, guards...)
}

// replacement is a change of any row.
type replacement struct {
	key             string
	row             encoding.TextMarshaler
	version         int64 // that it replaces
	absent, present []string
}

// replace writes a row if the conditions of its replacement hold, and the
// guards; errGuard if these do not. It is sent at most once: the client repeats
// no write that may have arrived.
func (d *Directory) replace(ctx context.Context, r replacement, guards ...clientv3.Cmp) (version int64, err error) {
	row, err := r.row.MarshalText()
	if err != nil {
		return 0, fmt.Errorf("encode row: %w", err)
	}
	holds := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(r.key), "=", r.version)}
	holds = append(holds, guards...)
	for _, member := range r.absent {
		holds = append(holds, clientv3.Compare(clientv3.CreateRevision(d.keys.node(member)), "=", 0))
	}
	for _, member := range r.present {
		holds = append(holds, clientv3.Compare(clientv3.CreateRevision(d.keys.node(member)), ">", 0))
	}
	ctx, cancel := context.WithTimeout(ctx, 2*callTimeout)
	defer cancel()
	answer, revision, err := d.batcher.do(ctx, r.key, clientv3.OpTxn(holds,
		[]clientv3.Op{clientv3.OpPut(r.key, string(row))},
		[]clientv3.Op{clientv3.OpTxn(guards, nil, nil)}))
	switch {
	case err != nil:
		return 0, err
	case answer.GetSucceeded():
		return revision, nil
	case answer.GetResponses()[0].GetResponseTxn().GetSucceeded():
		return 0, membership.ErrConflict
	}
	return 0, errGuard
}

// Row implements [membership.Directory].
func (d *Directory) Row(ctx context.Context, s shard.Slot) (shard.Row, error) {
	row, err := d.row(ctx, s)
	if err != nil {
		return shard.Row{}, fmt.Errorf("read slot %d: %w", s, err)
	}
	return row, nil
}

func (d *Directory) row(ctx context.Context, s shard.Slot) (shard.Row, error) {
	if s >= shard.Slots {
		return shard.Row{}, errNoSlot
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := d.client.Get(ctx, d.keys.slot(s)) // linearizable
	if err != nil || len(resp.Kvs) == 0 {
		return shard.Row{}, err
	}
	return shard.ParseRow(resp.Kvs[0].Value, resp.Kvs[0].ModRevision)
}

// ClusterID implements [membership.Directory].
func (d *Directory) ClusterID(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*callTimeout)
	defer cancel()
	random := make([]byte, 16)
	_, _ = rand.Read(random) // never fails
	id, key := hex.EncodeToString(random), d.keys.cluster()
	resp, err := d.client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, id)).
		Else(clientv3.OpGet(key)).
		Commit()
	if err != nil {
		return "", fmt.Errorf("read the cluster's id: %w", err)
	}
	if !resp.Succeeded {
		id = string(resp.Responses[0].GetResponseRange().GetKvs()[0].Value)
	}
	return id, nil
}
