package etcd

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// maxSends is how many transactions are under way at a time: what comes
	// meanwhile goes together. One that takes longer than slowAfter does not
	// count any more.
	maxSends  = 2
	slowAfter = 50 * time.Millisecond
	// maxBatch is how many writes go together. etcd takes 128 operations in a
	// transaction, of which each write needs one.
	maxBatch = 32
)

// batcher sends writes, and those that wait at a time in one transaction, each
// with conditions of its own: etcd has one entry to replicate then, and all who
// watch it one piece of news. Writes of one row never go together.
type batcher struct {
	client *clientv3.Client
	tasks  sync.WaitGroup // one for each of sending

	mu      sync.Mutex
	queue   []*write
	sending int // senders whose transaction is not slow
}

// write is one conditional write.
type write struct {
	ctx context.Context //nolint:containedctx // of who waits for it; it is not sent any more when that has ended
	key string          // of the row
	op  clientv3.Op     // a transaction

	done     chan struct{} // closed when what follows is known
	answer   *etcdserverpb.TxnResponse
	revision int64
	err      error
}

// do has a write sent, once at most, and returns what its transaction answered
// and the store's revision then. With an error it may have been applied.
func (b *batcher) do(ctx context.Context, key string, op clientv3.Op) (*etcdserverpb.TxnResponse, int64, error) {
	w := &write{ctx: ctx, key: key, op: op, done: make(chan struct{})}
	b.put(w)
	select {
	case <-w.done:
		return w.answer, w.revision, w.err
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
}

func (b *batcher) put(w *write) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue = append(b.queue, w)
	b.startLocked()
}

// startLocked sees to it that what waits is sent.
func (b *batcher) startLocked() {
	if b.sending < maxSends {
		b.sending++
		b.tasks.Go(b.send)
	}
}

// send sends what waits, until nothing does, or a transaction took so long that
// another took over.
func (b *batcher) send() {
	for slow := false; !slow; {
		batch := b.take()
		if len(batch) == 0 {
			return
		}
		late := time.AfterFunc(slowAfter, b.giveWay)
		b.commit(batch)
		slow = !late.Stop()
		for _, w := range batch {
			close(w.done)
		}
	}
}

// giveWay lets others send while a transaction is not answered: the member of
// etcd that it went to may hang.
func (b *batcher) giveWay() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sending--
	if len(b.queue) > 0 {
		b.startLocked()
	}
}

// take takes writes that somebody waits for out of the queue, oldest first, as
// many as may go together. Where there are none the sender has ended.
func (b *batcher) take() (batch []*write) {
	b.mu.Lock()
	defer b.mu.Unlock()
	rows := make(map[string]bool, maxBatch)
	left := b.queue[:0]
	for _, w := range b.queue {
		switch {
		case w.ctx.Err() != nil:
		case len(batch) == maxBatch, rows[w.key]:
			left = append(left, w)
		default:
			rows[w.key] = true
			batch = append(batch, w)
		}
	}
	clear(b.queue[len(left):])
	if b.queue = left; len(batch) == 0 {
		b.sending--
	}
	return batch
}

func (b *batcher) commit(batch []*write) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*callTimeout)
	defer cancel()
	ops := make([]clientv3.Op, len(batch))
	for i, w := range batch {
		ops[i] = w.op
	}
	resp, err := b.client.Txn(ctx).Then(ops...).Commit()
	if err == nil && len(resp.Responses) != len(batch) {
		err = fmt.Errorf("etcd answered %d of %d writes", len(resp.Responses), len(batch))
	}
	for i, w := range batch {
		if w.err = err; err == nil {
			w.answer, w.revision = resp.Responses[i].GetResponseTxn(), resp.Header.GetRevision()
		}
	}
}
