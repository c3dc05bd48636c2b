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

type replier func(a hold.Answer) hold.Reply

func (f replier) Reply(a hold.Answer) hold.Reply { return f(a) }

// failing is a response whose connection fails.
type failing struct {
	*httptest.ResponseRecorder
	err error
}

func (w failing) FlushError() error { return w.err }

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
				hold.Waiting{WriteTimeout: time.Second, DrainWindow: time.Second}.Hold(
					failing{httptest.NewRecorder(), tt.writeErr},
					httptest.NewRequestWithContext(ctx, http.MethodPost, "/cometd", nil), e,
					replier(func(a hold.Answer) hold.Reply {
						status = a.Status
						return hold.Reply{Status: a.Status, Type: "text/plain"}
					}))
				if len(o.written) != tt.wantWritten || len(o.lost) != tt.wantLost || status != tt.wantStatus {
					t.Errorf("written %v, lost %v, status %d; want %d, %d, %d",
						o.written, o.lost, status, tt.wantWritten, tt.wantLost, tt.wantStatus)
				}
			})
		})
	}
}
