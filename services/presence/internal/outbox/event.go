package outbox

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/comet-push/comet/internal/home"
)

// Event is something that became of a session, as it is written into its
// channel and told to webhooks: the JSON of comet.presence.v1.Event.
type Event struct {
	ID         string        `json:"id"`
	Session    string        `json:"session"`
	User       string        `json:"user,omitempty"`
	Edge       string        `json:"edge,omitempty"`
	Generation string        `json:"generation"`
	Time       time.Time     `json:"time"`
	Ended      *Disconnected `json:"disconnected,omitempty"`
	Left       *Left         `json:"left,omitempty"`
}

// Disconnected is the end of a session.
type Disconnected struct {
	Reason    string   `json:"reason"`
	Channels  []string `json:"channels,omitempty"`
	Truncated bool     `json:"channelsTruncated,omitempty"`
}

// Left is a channel that a session left and outlived.
type Left struct {
	Channel string `json:"channel"`
	Reason  string `json:"reason"`
}

// Unsubscribe is the reason of a Left.
const Unsubscribe = "unsubscribe"

const (
	maxChannels     = 100
	maxChannelBytes = 8 << 10
)

// NewDisconnected returns the event of an end. Its id is the same at both holders.
func NewDisconnected(session, user, edge string, g home.Generation, reason string, channels []string, at time.Time) *Event {
	e := &Event{
		ID: session + "/" + g.String() + "/disconnected", Session: session, User: user, Edge: edge,
		Generation: g.String(), Time: at.UTC(), Ended: &Disconnected{Reason: reason},
	}
	bytes := 0
	for i, c := range channels {
		if bytes += len(c); i == maxChannels || bytes > maxChannelBytes {
			e.Ended.Truncated = true
			break
		}
		e.Ended.Channels = append(e.Ended.Channels, c)
	}
	return e
}

// NewLeft returns the event of a channel that was left. Its id has the time:
// two holders that heard of it at different times give it different ones.
func NewLeft(session, user, edge string, g home.Generation, channel string, at time.Time) *Event {
	return &Event{
		ID:      session + "/" + g.String() + "/left" + channel + "/" + strconv.FormatInt(at.UnixMilli(), 10),
		Session: session, User: user, Edge: edge, Generation: g.String(), Time: at.UTC(),
		Left: &Left{Channel: channel, Reason: Unsubscribe},
	}
}

// Mark is an entry of a channel of events that is none. A channel in which
// nothing stands is forgotten, and then nobody could tell whether positions in
// it are still complete.
const Mark = "{}"

// Parse reads an event from its channel. It must not be a Mark.
func Parse(text []byte) (*Event, error) {
	var e Event
	if err := json.Unmarshal(text, &e); err != nil {
		return nil, fmt.Errorf("read an event: %w", err)
	}
	if e.ID == "" || e.Session == "" || (e.Ended == nil) == (e.Left == nil) {
		return nil, fmt.Errorf("event %q of session %q is neither an end nor a leave", e.ID, e.Session)
	}
	if _, err := parseGeneration(e.Generation); err != nil {
		return nil, fmt.Errorf("event %q: %w", e.ID, err)
	}
	return &e, nil
}

// Text is the event as it is published.
func (e *Event) Text() []byte {
	text, _ := json.Marshal(e) // of these types it cannot fail
	return text
}

// generation is the event's; it was parsed, or made, before.
func (e *Event) generation() home.Generation {
	g, _ := parseGeneration(e.Generation)
	return g
}

func parseGeneration(text string) (home.Generation, error) {
	epoch, count, _ := strings.Cut(text, ".")
	var g home.Generation
	var err error
	if g.Epoch, err = strconv.ParseUint(epoch, 10, 64); err == nil {
		g.Count, err = strconv.ParseUint(count, 10, 64)
	}
	if err != nil {
		return home.Generation{}, fmt.Errorf("generation %q is not epoch.count: %w", text, err)
	}
	return g, nil
}
