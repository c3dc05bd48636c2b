package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/comet-push/comet/internal/membership"
)

var errRace = errors.New("another node of the name came or went meanwhile")

// Register implements [membership.Directory].
func (d *Directory) Register(ctx context.Context, n membership.Node, updates <-chan membership.Node) error {
	if n.Name == "" || n.ID == "" || strings.ContainsAny(n.Member(), "/\x00") || strings.Count(n.Member(), "@") != 1 {
		return fmt.Errorf("register %q: name and id must not be empty nor contain / or @", n.Member())
	}
	r := &registration{d: d, node: n, since: -1}
	defer r.withdraw(ctx)
	for {
		wait := d.lease / 3
		if err := r.renew(ctx); errors.Is(err, membership.ErrReplaced) {
			return fmt.Errorf("register %s: %w", n.Member(), err)
		} else if err != nil {
			wait = retryEvery
			d.log.Debug("node's announcement not renewed", slog.String("member", n.Member()), slog.Any("error", err))
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case u, ok := <-updates:
			timer.Stop()
			switch {
			case !ok:
				updates = nil
			case u.Member() != n.Member():
				return fmt.Errorf("register %s: update names another member, %s", n.Member(), u.Member())
			default:
				r.node = u
			}
		case <-timer.C:
		}
	}
}

// registration is one Register call; it belongs to its goroutine.
type registration struct {
	d     *Directory
	node  membership.Node
	lease clientv3.LeaseID // 0: none
	// since is the store's revision when we came, -1 before we know it. Nodes
	// of our name made after it replace us, those made before we replace.
	since int64
}

// renew keeps the lease and makes sure that the node is announced on it.
func (r *registration) renew(ctx context.Context) error {
	sent := time.Now()
	if err := r.confirm(ctx); err != nil {
		return err
	}
	r.d.renewed.Store(&sent)
	return nil
}

func (r *registration) confirm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.d.lease/2)
	defer cancel()
	if err := r.keepLease(ctx); err != nil {
		return err
	}
	value, err := json.Marshal(r.node)
	if err != nil {
		return fmt.Errorf("encode node: %w", err)
	}
	named := r.d.keys.named(r.node.Name)
	resp, err := r.d.client.Get(ctx, named.from, clientv3.WithRange(named.end))
	if err != nil {
		return fmt.Errorf("read own announcement: %w", err)
	}
	if now := resp.Header.GetRevision(); r.since < 0 || now < r.since { // now < since: the store lost its data
		r.since = now
	}
	for _, kv := range resp.Kvs {
		switch own := string(kv.Key) == r.d.keys.node(r.node.Member()); {
		case own && string(kv.Value) == string(value) && kv.Lease == int64(r.lease):
			return nil
		case !own && kv.CreateRevision > r.since:
			return membership.ErrReplaced
		}
	}
	return r.announce(ctx, string(value))
}

// announce puts the node in place of older ones of its name.
func (r *registration) announce(ctx context.Context, value string) error {
	var older []clientv3.Cmp
	var ops []clientv3.Op
	for _, o := range r.d.keys.others(r.node) {
		older = append(older, clientv3.Compare(clientv3.CreateRevision(o.from).WithRange(o.end), "<", r.since+1))
		ops = append(ops, clientv3.OpDelete(o.from, clientv3.WithRange(o.end)))
	}
	ops = append(ops, clientv3.OpPut(r.d.keys.node(r.node.Member()), value, clientv3.WithLease(r.lease)))
	resp, err := r.d.client.Txn(ctx).If(older...).Then(ops...).Commit()
	if err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	if !resp.Succeeded {
		return errRace
	}
	r.d.log.Info("node announced", slog.String("member", r.node.Member()),
		slog.String("addr", r.node.Addr), slog.Bool("draining", r.node.Draining), slog.Bool("cordoned", r.node.Cordoned),
		slog.Bool("edge_draining", r.node.EdgeDraining))
	return nil
}

// keepLease renews the lease, or asks for one.
func (r *registration) keepLease(ctx context.Context) error {
	if r.lease != 0 {
		err := r.keepAlive(ctx)
		if err == nil {
			return nil
		}
		if !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return fmt.Errorf("renew lease: %w", err)
		}
		r.lease = 0
	}
	resp, err := r.d.client.Grant(ctx, r.d.seconds())
	if err != nil {
		return fmt.Errorf("ask for a lease: %w", err)
	}
	r.lease = resp.ID
	return nil
}

// keepAlive asks members in turn to renew the lease: one may hang, or not know
// who leads.
func (r *registration) keepAlive(ctx context.Context) (err error) {
	tries := min(r.d.members.count, 3)
	for range tries {
		try, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), r.d.lease/2/time.Duration(tries))
		_, err = r.d.client.KeepAliveOnce(try, r.lease)
		cancel()
		if err == nil || errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return err
		}
	}
	return err
}

// withdraw ends the lease, and with it the announcement, also one of which it
// is unknown whether it arrived. If etcd does not hear it, the lease runs out.
func (r *registration) withdraw(ctx context.Context) {
	if r.lease == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	if _, err := r.d.client.Revoke(ctx, r.lease); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		r.d.log.Warn("node not withdrawn; it stays announced until its lease ends",
			slog.String("member", r.node.Member()), slog.Any("error", err))
	}
}
