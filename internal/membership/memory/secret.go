package memory

import (
	"bytes"
	"context"
	"fmt"

	"github.com/comet-push/comet/internal/membership"
)

// Secret implements [membership.Directory].
func (d *Directory) Secret(ctx context.Context) (text []byte, version int64, err error) {
	if err := d.travel(ctx); err != nil {
		return nil, 0, fmt.Errorf("read the cluster's secret: %w", err)
	}
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	return bytes.Clone(d.store.secret), d.store.secretVersion, nil
}

// SetSecret implements [membership.Directory].
func (d *Directory) SetSecret(ctx context.Context, text []byte, version int64) error {
	if err := d.travel(ctx); err != nil {
		return fmt.Errorf("write the cluster's secret: %w", err)
	}
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	if d.store.secretVersion != version {
		return membership.ErrConflict
	}
	d.store.secret = bytes.Clone(text)
	d.store.secretVersion++
	return nil
}
