package hold_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/internal/run"
	"github.com/comet-push/comet/services/edge/internal/hold"
)

type owner struct {
	written, lost []uint64
	drain         func()
}

func (o *owner) Written(n uint64) { o.written = append(o.written, n) }
func (o *owner) Lost(n uint64)    { o.lost = append(o.lost, n) }
func (o *owner) Drain(uint64)     { o.drain() }

func TestHold(t *testing.T) {
	tests := []struct {
		name        string
		event       func(e *hold.Exchange, gone context.CancelCauseFunc)
		writeErr    error
		wantWritten int
		wantLost    int
		wantStatus  int
	}{
		{"answered", func(e *hold.Exchange, _ context.CancelCauseFunc) { e.Answer(hold.Answer{Status: 200}) }, nil, 1, 0, 200},
		{"first answer counts", func(e *hold.Exchange, _ context.CancelCauseFunc) {
			e.Answer(hold.Answer{Status: 200})
			if e.Answer(hold.Answer{Status: 503}) {
				t.Error("a second answer was taken")
			}
		}, nil, 1, 0, 200},
		{"peer vanished", func(_ *hold.Exchange, gone context.CancelCauseFunc) { gone(nil) }, nil, 0, 1, 0},
		{"server leaves", func(_ *hold.Exchange, gone context.CancelCauseFunc) { gone(run.ErrDraining) }, nil, 1, 0, 200},
		{"write failed", func(e *hold.Exchange, _ context.CancelCauseFunc) { e.Answer(hold.Answer{Status: 200}) }, errors.New("reset"), 0, 1, 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, gone := context.WithCancelCause(t.Context())
				defer gone(nil)
				e := hold.New(7)
				o := owner{drain: func() { e.Answer(hold.Answer{Status: 200}) }}
				e.Own(&o)
				status := 0
				go func() {
					time.Sleep(time.Hour)
					tt.event(e, gone)
				}()
				hold.Waiting{WriteTimeout: time.Second, DrainWindow: time.Second}.Hold(httptest.NewRecorder(),
					httptest.NewRequestWithContext(ctx, http.MethodPost, "/cometd", nil), e,
					func(_ http.ResponseWriter, a hold.Answer) error {
						status = a.Status
						return tt.writeErr
					})
				if len(o.written) != tt.wantWritten || len(o.lost) != tt.wantLost || status != tt.wantStatus {
					t.Errorf("written %v, lost %v, status %d; want %d, %d, %d",
						o.written, o.lost, status, tt.wantWritten, tt.wantLost, tt.wantStatus)
				}
			})
		})
	}
}
