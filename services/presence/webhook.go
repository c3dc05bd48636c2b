package presence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/backoff"
	"github.com/comet-push/comet/internal/namespace"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/internal/upstream"
	"github.com/comet-push/comet/services/presence/internal/outbox"
	"github.com/comet-push/comet/services/presence/internal/webhook"
)

// Webhook says where events are sent. The zero value: nowhere.
type Webhook struct {
	// URL is of http or https.
	URL string
	// Secrets is the text of a file that has one in each line.
	Secrets []byte
	// Dial reaches it; nil: TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
}

const (
	hookTimeout = 10 * time.Second
	hookGather  = 100 * time.Millisecond
	// hookAnswer is how much of an answer is read, so that its connection can be
	// used again.
	hookAnswer = 64 << 10
	// hookGoodbye is how long the position is being saved at a hand-over.
	hookGoodbye = time.Second
)

// webhooks sends events by HTTP. For each channel of events the process does
// that which is the first holder of the shard of its number.
type webhooks struct {
	url     string
	secrets [][]byte
	client  *http.Client
	events  *events
	logger  *slog.Logger

	mu      sync.Mutex                 // leaf
	pending [outbox.Channels]time.Time // of the oldest event that is to be told; zero: none
}

func newWebhooks(cfg Webhook, e *events) (*webhooks, error) {
	if cfg.URL == "" {
		return nil, nil //nolint:nilnil // none is asked for
	}
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return nil, errors.New("the webhook is not an http or https URL")
	}
	secrets, err := webhook.ParseSecrets(cfg.Secrets)
	if err != nil {
		return nil, fmt.Errorf("secrets of the webhook: %w", err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: outbox.Channels, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: hookTimeout}
	if cfg.Dial != nil {
		transport.DialContext = func(ctx context.Context, _, addr string) (net.Conn, error) { return cfg.Dial(ctx, addr) }
	}
	return &webhooks{
		url: cfg.URL, secrets: secrets, events: e, logger: e.deps.Logger,
		client: &http.Client{
			Transport: transport, Timeout: hookTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// serve tells the events of a channel, whenever it is this process's turn,
// until ctx ends.
func (h *webhooks) serve(ctx context.Context, c outbox.Channel) {
	for ctx.Err() == nil {
		mine, news := h.events.isFirst(shard.PresenceShard(c))
		if mine {
			h.tell(ctx, c)
			continue
		}
		select {
		case <-ctx.Done():
		case <-news:
		}
	}
	h.client.CloseIdleConnections()
}

// tell tells the events of a channel while it is this process's turn.
func (h *webhooks) tell(ctx context.Context, c outbox.Channel) {
	saved, err := h.load(ctx, c)
	if err != nil {
		backoff.Pause(ctx, time.Second)
		return
	}
	courier := webhook.NewCourier(saved, time.Now())
	defer h.owe(c, nil)
	defer h.handOver(ctx, c, courier)
	for ctx.Err() == nil {
		mine, news := h.events.isFirst(shard.PresenceShard(c))
		if !mine {
			return
		}
		page, err := h.events.log.read(ctx, c, courier.At(), webhook.MaxEvents)
		switch {
		case err == nil:
		case rpc.Reason(err) == channelv1.ErrorReason_ERROR_REASON_HISTORY_LOST:
			h.events.metrics.gaps.Inc()
			h.logger.Error("the webhook was not told of events that are no longer retained", slog.Any("err", err))
			courier.Lost()
			continue
		default:
			backoff.Pause(ctx, time.Second)
			continue
		}
		h.owe(c, page.GetEntries())
		if len(page.GetEntries()) == 0 {
			courier.Passed(page.GetThrough())
			h.rest(ctx, c, courier, news)
			continue
		}
		for again := true; again && mine && ctx.Err() == nil; mine, _ = h.events.isFirst(shard.PresenceShard(c)) {
			again = !h.post(ctx, c, courier, page)
			h.saveDue(ctx, c, courier)
		}
	}
}

// rest waits until there is something to do: an event, which others may soon
// follow, a position to save, or another process's turn.
func (h *webhooks) rest(ctx context.Context, c outbox.Channel, courier *webhook.Courier, news <-chan struct{}) {
	most := eventIdle
	due, unsaved := courier.Due(time.Now())
	if unsaved {
		most = min(most, due)
	}
	h.events.log.wait(ctx, c, courier.At(), most, news)
	if h.events.log.head(c).last > courier.At() {
		backoff.Pause(ctx, hookGather)
		return
	}
	h.saveDue(ctx, c, courier)
}

// post sends a page of events, once, and waits a while if they were not taken.
func (h *webhooks) post(ctx context.Context, c outbox.Channel, courier *webhook.Courier, page *brokerv1.ReadResponse) (taken bool) {
	entries := page.GetEntries()
	var events [][]byte
	for _, entry := range entries {
		if string(entry.GetData()) != outbox.Mark {
			events = append(events, entry.GetData())
		}
	}
	if len(events) == 0 {
		courier.Passed(page.GetThrough())
		return true
	}
	delivery := fmt.Sprintf("%d-%d-%d", c, entries[0].GetOffset(), entries[len(entries)-1].GetOffset())
	outcome, err := h.send(ctx, delivery, webhook.Body(events))
	if err != nil && ctx.Err() != nil {
		return false
	}
	h.events.metrics.deliveries.WithLabelValues(outcome).Inc()
	if err == nil {
		courier.Told(page.GetThrough())
		h.owe(c, nil)
		return true
	}
	pause := courier.Failed()
	h.logger.Warn("the webhook did not take events; they are sent again", slog.String("delivery", delivery),
		slog.Any("err", err), slog.Duration("after", pause))
	backoff.Pause(ctx, pause)
	return false
}

// send makes a request; nil is an answer of 2xx.
func (h *webhooks) send(ctx context.Context, delivery string, body []byte) (outcome string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(body))
	if err != nil {
		return failed, fmt.Errorf("make a request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "comet")
	req.Header.Set(webhook.SignatureHeader, webhook.Sign(h.secrets, time.Now(), body))
	req.Header.Set(webhook.DeliveryHeader, delivery)
	resp, err := h.client.Do(req)
	if err != nil {
		return failed, fmt.Errorf("send: %w", errors.Unwrap(err)) // without the URL, which may hold a secret
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.CopyN(io.Discard, resp.Body, hookAnswer) // nothing in it matters
	if resp.StatusCode/100 != 2 {
		return refused, fmt.Errorf("answered %s", resp.Status)
	}
	return delivered, nil
}

// load returns the position that was saved last; 0: none was.
func (h *webhooks) load(ctx context.Context, c outbox.Channel) (uint64, error) {
	page, err := h.events.reader.Read(ctx, &brokerv1.ReadRequest{Channel: c.Name(namespace.PresenceWebhook), Limit: 1, Reverse: true})
	if err != nil || len(page.GetEntries()) == 0 {
		return 0, err
	}
	return webhook.ParseCursor(page.GetEntries()[0].GetData())
}

// saveDue saves the position if it is time to.
func (h *webhooks) saveDue(ctx context.Context, c outbox.Channel, courier *webhook.Courier) {
	if due, is := courier.Due(time.Now()); is && due == 0 {
		h.save(ctx, c, courier)
	}
}

// save writes the position down. If it cannot be, it is tried again later.
func (h *webhooks) save(ctx context.Context, c outbox.Channel, courier *webhook.Courier) {
	at, done := courier.At(), make(chan error, 1)
	h.events.publisher.Publish(upstream.Publication{
		Channel: c.Name(namespace.PresenceWebhook), Data: webhook.Cursor(at),
	}, func(_ upstream.Ack, err error) { done <- err })
	select {
	case <-ctx.Done():
	case err := <-done:
		if err == nil {
			courier.Saved(at, time.Now())
		} else {
			backoff.Pause(ctx, time.Second)
		}
	}
}

// handOver saves the position for whose turn it is next.
func (h *webhooks) handOver(ctx context.Context, c outbox.Channel, courier *webhook.Courier) {
	if _, unsaved := courier.Due(time.Now()); !unsaved {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hookGoodbye)
	defer cancel()
	h.save(ctx, c, courier)
}

// owe says which events are to be told.
func (h *webhooks) owe(c outbox.Channel, entries []*brokerv1.Entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pending[c] = (time.Time{}); len(entries) > 0 {
		h.pending[c] = time.UnixMilli(entries[0].GetTimeMs())
	}
}

// lag is how old the oldest event is that is to be told, in seconds.
func (h *webhooks) lag() (seconds float64) {
	if h == nil {
		return 0
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, at := range h.pending {
		if !at.IsZero() {
			seconds = max(seconds, time.Since(at).Seconds())
		}
	}
	return seconds
}
