package drill

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
)

// patience is how long a door may answer nothing at all before publishers try
// another.
const patience = time.Second

// door is a broker that messages are published through.
type door struct {
	name  string
	conn  *grpc.ClientConn
	grpc  pubsubv1.PubSubServiceClient
	rest  string
	http  *http.Client
	heard atomic.Int64 // when it answered anything, in nanoseconds since 1970
}

func newDoor(n *node) (*door, error) {
	conn, err := grpc.NewClient("passthrough:///"+n.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, MaxDelay: 200 * time.Millisecond}, MinConnectTimeout: patience,
		}))
	if err != nil {
		return nil, err
	}
	rest := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	return &door{name: n.Name, conn: conn, grpc: pubsubv1.NewPubSubServiceClient(conn), rest: "http://" + n.Internal + "/v1/publish", http: rest}, nil
}

func (d *door) close() {
	d.http.CloseIdleConnections()
	_ = d.conn.Close()
}

func (d *door) answered() { d.heard.Store(time.Now().UnixNano()) }

// attend returns a context that ends when the door has been silent for too
// long: silent for everybody, not for one message that waits for its slot.
func (d *door) attend(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	began := time.Now()
	tick := time.NewTicker(patience / 10)
	go func() {
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-tick.C:
				if heard := time.Unix(0, d.heard.Load()); now.Sub(began) > patience && now.Sub(heard) > patience {
					cancel()
				}
			}
		}
	}()
	return ctx, cancel
}

// way is how messages of some channels are published: through one door, and
// through the next when that fails.
type way struct {
	ledger   *ledger
	doors    []*door
	home     int
	at       atomic.Int64 // which door
	channels []string
	every    time.Duration // between two messages of a channel
	back     chan struct{} // holds a token when it is to go home
}

func newWay(l *ledger, doors []*door, home int, channels []string, every time.Duration) *way {
	w := &way{ledger: l, doors: doors, home: home, channels: channels, every: every, back: make(chan struct{}, 1)}
	w.at.Store(int64(home))
	return w
}

// goHome returns to the door that the way began with.
func (w *way) goHome() {
	w.at.Store(int64(w.home))
	select {
	case w.back <- struct{}{}:
	default:
	}
}

func (w *way) door() (*door, int64) {
	at := w.at.Load()
	return w.doors[at], at
}

// next leaves a door, unless somebody has.
func (w *way) next(from int64) { w.at.CompareAndSwap(from, (from+1)%int64(len(w.doors))) }

// calls publishes the messages of each channel one after the other.
func (w *way) calls(ctx context.Context, publish func(ctx context.Context, d *door, p *post) error) {
	var group sync.WaitGroup
	for i, channel := range w.channels {
		group.Go(func() {
			start := time.Now().Add(w.every * time.Duration(i) / time.Duration(len(w.channels)))
			for n := 1; sleep(ctx, time.Until(start.Add(time.Duration(n)*w.every))); n++ {
				w.insist(ctx, w.ledger.due(channel, n, start.Add(time.Duration(n)*w.every)), publish)
			}
		})
	}
	group.Wait()
}

// insist publishes until it is acknowledged.
func (w *way) insist(ctx context.Context, p *post, publish func(ctx context.Context, d *door, p *post) error) {
	for ctx.Err() == nil {
		d, at := w.door()
		attempt, cancel := d.attend(ctx)
		err := publish(attempt, d, p)
		cancel()
		if err == nil {
			d.answered()
			w.ledger.published(p, d.name)
			return
		}
		if ctx.Err() == nil {
			w.ledger.retried(reason(err))
		}
		w.next(at)
		sleep(ctx, 20*time.Millisecond)
	}
}

// unary publishes by a call of gRPC.
func unary(ctx context.Context, d *door, p *post) error {
	_, err := d.grpc.Publish(ctx, &pubsubv1.PublishRequest{Channel: p.channel, Data: p.data, IdempotencyKey: p.key})
	return err
}

// rest publishes by a POST.
func rest(ctx context.Context, d *door, p *post) error {
	text, err := json.Marshal(map[string]any{"channel": p.channel, "data": json.RawMessage(p.data), "idempotencyKey": p.key})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.rest, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := d.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("REST %s", resp.Status)
	}
	return nil
}

// reason names an error, shortly.
func reason(err error) string {
	if s, ok := status.FromError(err); ok && s.Code() != codes.Unknown {
		return s.Code().String()
	}
	if errors.Is(err, context.Canceled) {
		return "silence"
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "EOF"
	}
	if cause := errors.Unwrap(err); cause != nil {
		return reason(cause)
	}
	return err.Error()
}

// sleep waits; false if ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
