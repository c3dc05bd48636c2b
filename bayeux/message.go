package bayeux

import "encoding/json"

// The channels of the protocol itself.
const (
	Handshake   = "/meta/handshake"
	Connect     = "/meta/connect"
	Subscribe   = "/meta/subscribe"
	Unsubscribe = "/meta/unsubscribe"
	Disconnect  = "/meta/disconnect"
)

// The connection types: how messages travel.
const (
	LongPolling     = "long-polling"     // a POST and its response
	CallbackPolling = "callback-polling" // a script's address and the script (JSONP)
	WebSocket       = "websocket"
)

// Version is the version of the protocol.
const Version = "1.0"

// TimestampLayout is how a server writes the timestamp member, in UTC.
const TimestampLayout = "2006-01-02T15:04:05.000Z"

// Message is one Bayeux message: a request, a reply or an event. A zero field
// is an absent member.
//
// The raw fields alias what was given to Decode; whoever keeps them longer than
// that buffer copies them.
type Message struct {
	Channel                  string
	ID                       json.RawMessage // a string or a number, as it came
	ClientID                 string
	Version                  string
	MinimumVersion           string
	ConnectionType           string
	SupportedConnectionTypes []string
	Advice                   *Advice
	Subscription             *Subscription
	Data                     json.RawMessage
	Ext                      json.RawMessage // an object
	Successful               *bool
	Error                    string
	Timestamp                string

	// Members are the unknown members, `"k":v` joined by commas.
	Members []byte

	// Problem is what is wrong with the message, the first thing found; the
	// message is to be answered with it and otherwise ignored. Channel, ID and
	// Subscription.Raw are set as far as they can be echoed. Never encoded.
	Problem *Error
}

// Subscription is the subscription member.
type Subscription struct {
	Channels []string        // nil if a Problem was found in them
	Raw      json.RawMessage // a string or an array, as it came; echoed in replies
}

// Reply returns the reply to a request: successful if err is nil. The caller
// adds what the channel needs.
func (m *Message) Reply(err *Error) Message {
	ok := err == nil
	r := Message{Channel: m.Channel, ID: m.ID, Successful: &ok, Subscription: m.Subscription}
	if !ok {
		r.Error = err.String()
	}
	return r
}

// IDText returns the id as text: the string without its quotes, or the digits
// of the number; empty if there is none.
func (m *Message) IDText() string {
	if s, ok := unquote(m.ID); ok {
		return s
	}
	return string(m.ID)
}
