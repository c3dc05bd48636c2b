package etcd

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/comet-push/comet/internal/membership"
)

// Secret implements [membership.Directory].
func (d *Directory) Secret(ctx context.Context) (text []byte, version int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := d.client.Get(ctx, d.keys.secret())
	switch {
	case err != nil:
		return nil, 0, fmt.Errorf("read the cluster's secret: %w", err)
	case len(resp.Kvs) == 0:
		return nil, 0, nil
	}
	return resp.Kvs[0].Value, resp.Kvs[0].ModRevision, nil
}

// SetSecret implements [membership.Directory].
func (d *Directory) SetSecret(ctx context.Context, text []byte, version int64) error {
	ctx, cancel := context.WithTimeout(ctx, 2*callTimeout)
	defer cancel()
	key := d.keys.secret()
	resp, err := d.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", version)).
		Then(clientv3.OpPut(key, string(text))).
		Commit()
	switch {
	case err != nil:
		return fmt.Errorf("write the cluster's secret: %w", err)
	case !resp.Succeeded:
		return membership.ErrConflict
	}
	return nil
}
