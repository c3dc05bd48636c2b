package bayeux

import "bytes"

// field numbers the members that Message knows.
type field uint

const (
	fieldUnknown field = iota
	fieldChannel
	fieldID
	fieldClientID
	fieldVersion
	fieldMinimumVersion
	fieldConnectionType
	fieldConnectionTypes
	fieldAdvice
	fieldSubscription
	fieldData
	fieldExt
	fieldSuccessful
	fieldError
	fieldTimestamp
)

func fieldOf(name []byte) field {
	switch string(name) {
	case "channel":
		return fieldChannel
	case "id":
		return fieldID
	case "clientId":
		return fieldClientID
	case "version":
		return fieldVersion
	case "minimumVersion":
		return fieldMinimumVersion
	case "connectionType":
		return fieldConnectionType
	case "supportedConnectionTypes":
		return fieldConnectionTypes
	case "advice":
		return fieldAdvice
	case "subscription":
		return fieldSubscription
	case "data":
		return fieldData
	case "ext":
		return fieldExt
	case "successful":
		return fieldSuccessful
	case "error":
		return fieldError
	case "timestamp":
		return fieldTimestamp
	default:
		return fieldUnknown
	}
}

// builder fills a message from its members, each of which is valid JSON.
type builder struct {
	limits   *Limits
	m        *Message
	previous string // clientId of the message before, most often the same
	seen     uint   // a bit per field
	owned    bool   // Members are a copy, not a part of the input
}

func (b *builder) problem(e *Error) {
	if b.m.Problem == nil {
		b.m.Problem = e
	}
}

// member takes one member; whole is its text, name and value.
func (b *builder) member(name, value, whole []byte) {
	f := fieldOf(name)
	if f == fieldUnknown {
		b.unknown(whole)
		return
	}
	if b.seen&(1<<f) != 0 {
		b.problem(MemberRepeated(string(name)))
		return
	}
	b.seen |= 1 << f
	if string(value) == "null" && f != fieldData {
		return
	}
	switch f {
	case fieldChannel:
		b.channel(value)
	case fieldID:
		b.id(value)
	case fieldClientID:
		b.clientID(value)
	case fieldVersion:
		b.text(&b.m.Version, name, value)
	case fieldMinimumVersion:
		b.text(&b.m.MinimumVersion, name, value)
	case fieldConnectionType:
		b.text(&b.m.ConnectionType, name, value)
	case fieldError:
		b.text(&b.m.Error, name, value)
	case fieldTimestamp:
		b.text(&b.m.Timestamp, name, value)
	default:
		b.composite(f, name, value)
	}
}

func (b *builder) composite(f field, name, value []byte) {
	ok := true
	switch f {
	case fieldConnectionTypes:
		b.m.SupportedConnectionTypes, ok = texts(value, b.limits.Subscriptions, b.limits.TextBytes)
	case fieldAdvice:
		b.m.Advice, ok = parseAdvice(value)
	case fieldSubscription:
		b.subscription(value)
	case fieldData:
		b.m.Data = value
	case fieldExt:
		if ok = value[0] == '{'; ok {
			b.m.Ext = value
		}
	case fieldSuccessful:
		successful := string(value) == "true"
		if ok = successful || string(value) == "false"; ok {
			b.m.Successful = &successful
		}
	}
	if !ok {
		b.problem(MemberInvalid(string(name)))
	}
}

func (b *builder) unknown(whole []byte) {
	m := b.m
	switch {
	case m.Members == nil:
		m.Members = whole
		return
	case !b.owned:
		m.Members = append(make([]byte, 0, 2*(len(m.Members)+len(whole))), m.Members...)
		b.owned = true
	}
	m.Members = append(append(m.Members, ','), whole...)
}

func (b *builder) channel(value []byte) {
	// The protocol's own channels are constants: nothing is allocated for them.
	for _, known := range [...]string{Connect, Handshake, Subscribe, Unsubscribe, Disconnect} {
		if len(value) == len(known)+2 && string(value[1:len(value)-1]) == known {
			b.m.Channel = known
			return
		}
	}
	name, ok := unquote(value)
	b.m.Channel = name
	if !ok || b.limits.channelFault(name) != "" || IsPattern(name) {
		b.problem(ChannelInvalid())
	}
}

func (b *builder) id(value []byte) {
	if len(value) > b.limits.TextBytes+len(`""`) || value[0] != '"' && !isNumber(value) {
		b.problem(MessageIDInvalid())
		return
	}
	b.m.ID = value
}

// clientID leaves an impossible clientId empty: the session is unknown, which
// has an answer of its own.
func (b *builder) clientID(value []byte) {
	if len(value) > b.limits.TextBytes+len(`""`) || value[0] != '"' {
		return
	}
	if string(value[1:len(value)-1]) == b.previous {
		b.m.ClientID = b.previous
		return
	}
	b.m.ClientID, _ = unquote(value)
}

func (b *builder) text(dst *string, name, value []byte) {
	text, ok := unquote(value)
	if !ok || len(text) > b.limits.TextBytes {
		b.problem(MemberInvalid(string(name)))
		return
	}
	*dst = text
}

func (b *builder) subscription(value []byte) {
	sub := &Subscription{Raw: value}
	b.m.Subscription = sub
	var names []string
	var ok bool
	if value[0] == '"' {
		var name string
		name, ok = unquote(value)
		names = []string{name}
	} else {
		names, ok = texts(value, b.limits.Subscriptions, b.limits.ChannelBytes)
	}
	for _, name := range names {
		ok = ok && b.limits.channelFault(name) == ""
	}
	if !ok {
		b.problem(SubscriptionInvalid())
		return
	}
	sub.Channels = names
}

// finish looks at the message as a whole.
func (b *builder) finish() {
	if b.m.Channel == "" {
		b.problem(ChannelMissing())
	}
}

// texts reads an array of up to most strings, each of up to size bytes.
func texts(value []byte, most, size int) ([]string, bool) {
	if value[0] != '[' {
		return nil, false
	}
	s := scanner{in: value, pos: 1}
	list := make([]string, 0, min(most, 1+bytes.Count(value, []byte(","))))
	for first := true; s.next(first, ']'); first = false {
		text, ok := unquote(s.value(1))
		if !ok || len(text) > size || len(list) == most {
			return nil, false
		}
		list = append(list, text)
	}
	return list, true
}

func isNumber(value []byte) bool {
	return value[0] == '-' || value[0] >= '0' && value[0] <= '9'
}
