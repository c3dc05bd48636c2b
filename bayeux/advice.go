package bayeux

import (
	"strconv"
	"time"
)

// What an advice tells a client to do next.
const (
	ReconnectRetry     = "retry"     // connect again
	ReconnectHandshake = "handshake" // the session is gone; only with an unsuccessful reply
	ReconnectNone      = "none"      // stop for good
)

// Advice is the advice member. Times are in milliseconds; nil is absent.
type Advice struct {
	Reconnect       string
	Interval        *int64
	Timeout         *int64
	MaxInterval     *int64
	MultipleClients bool
}

// NewAdvice returns an advice with the three members that a server always gives
// together: the CometD client forgets those it is not told.
func NewAdvice(reconnect string, interval, timeout time.Duration) *Advice {
	i, t := interval.Milliseconds(), timeout.Milliseconds()
	return &Advice{Reconnect: reconnect, Interval: &i, Timeout: &t}
}

// WithMaxInterval sets how long a session survives without a connect.
func (a *Advice) WithMaxInterval(d time.Duration) *Advice {
	ms := d.Milliseconds()
	a.MaxInterval = &ms
	return a
}

// parseAdvice reads an object. Advice is only a hint: members of the wrong type
// are ignored, and times are brought into 0 to 2^53.
func parseAdvice(raw []byte) (*Advice, bool) {
	if raw[0] != '{' {
		return nil, false
	}
	a := &Advice{}
	s := scanner{in: raw, pos: 1}
	for first := true; s.next(first, '}'); first = false {
		key := s.key()
		value := s.value(helperDepth)
		switch string(key) {
		case "reconnect":
			switch text, _ := unquote(value); text {
			case ReconnectRetry, ReconnectHandshake, ReconnectNone:
				a.Reconnect = text
			}
		case "interval":
			a.Interval = milliseconds(value)
		case "timeout":
			a.Timeout = milliseconds(value)
		case "maxInterval":
			a.MaxInterval = milliseconds(value)
		case "multiple-clients":
			a.MultipleClients = string(value) == "true"
		}
	}
	return a, true
}

func milliseconds(value []byte) *int64 {
	const most = 1 << 53
	f, err := strconv.ParseFloat(string(value), 64)
	if err != nil || value[0] == '-' && f != 0 {
		return nil
	}
	ms := int64(min(f, most))
	return &ms
}

func (a *Advice) appendJSON(dst []byte) []byte {
	o := object{append(dst, '{')}
	if a.Reconnect != "" {
		o.text("reconnect", a.Reconnect)
	}
	for _, t := range [...]struct {
		name string
		ms   *int64
	}{{"interval", a.Interval}, {"timeout", a.Timeout}, {"maxInterval", a.MaxInterval}} {
		if t.ms != nil {
			o.name(t.name)
			o.dst = strconv.AppendInt(o.dst, *t.ms, 10)
		}
	}
	if a.MultipleClients {
		o.name("multiple-clients")
		o.dst = append(o.dst, "true"...)
	}
	return append(o.dst, '}')
}
