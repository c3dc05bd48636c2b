package bayeux

// AppendJSON appends the message as a JSON object. Raw fields must be valid
// JSON and are copied as they are; Problem is left out.
func (m *Message) AppendJSON(dst []byte) []byte {
	o := object{append(dst, '{')}
	if m.Channel != "" {
		o.text("channel", m.Channel)
	}
	o.raw("id", m.ID)
	if m.Successful != nil {
		o.name("successful")
		if *m.Successful {
			o.dst = append(o.dst, "true"...)
		} else {
			o.dst = append(o.dst, "false"...)
		}
	}
	o.textIf("error", m.Error)
	if m.Subscription != nil {
		o.raw("subscription", m.Subscription.Raw)
	}
	o.textIf("clientId", m.ClientID)
	o.textIf("version", m.Version)
	o.textIf("minimumVersion", m.MinimumVersion)
	if m.SupportedConnectionTypes != nil {
		o.name("supportedConnectionTypes")
		o.dst = append(o.dst, '[')
		for i, t := range m.SupportedConnectionTypes {
			if i > 0 {
				o.dst = append(o.dst, ',')
			}
			o.dst = appendText(o.dst, t)
		}
		o.dst = append(o.dst, ']')
	}
	o.textIf("connectionType", m.ConnectionType)
	if m.Advice != nil {
		o.name("advice")
		o.dst = m.Advice.appendJSON(o.dst)
	}
	o.raw("data", m.Data)
	o.raw("ext", m.Ext)
	o.textIf("timestamp", m.Timestamp)
	o.members(m.Members)
	return append(o.dst, '}')
}

// AppendBatch appends messages as a JSON array.
func AppendBatch(dst []byte, messages []Message) []byte {
	dst = append(dst, '[')
	for i := range messages {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = messages[i].AppendJSON(dst)
	}
	return append(dst, ']')
}

// AppendEvent appends the event that subscribers of a channel receive. An event
// always has data: nil becomes null. ext and members may be nil.
func AppendEvent(dst []byte, channel string, data, ext, members []byte) []byte {
	o := object{append(dst, '{')}
	o.text("channel", channel)
	if data == nil {
		data = []byte("null")
	}
	o.raw("data", data)
	o.raw("ext", ext)
	o.members(members)
	return append(o.dst, '}')
}

// EventMembers returns the members that a published message keeps on its way
// to subscribers, besides channel, data and ext: the unknown ones and
// timestamp. Others have a meaning to clients, so nobody may forge them.
func (m *Message) EventMembers() []byte {
	if m.Timestamp == "" {
		return m.Members
	}
	members := appendText([]byte(`"timestamp":`), m.Timestamp)
	if len(m.Members) > 0 {
		members = append(append(members, ','), m.Members...)
	}
	return members
}

// object appends the members of a JSON object; dst begins with what precedes
// them and its brace.
type object struct{ dst []byte }

func (o *object) comma() {
	if o.dst[len(o.dst)-1] != '{' {
		o.dst = append(o.dst, ',')
	}
}

func (o *object) name(name string) {
	o.comma()
	o.dst = append(append(append(o.dst, '"'), name...), `":`...)
}

func (o *object) text(name, text string) {
	o.name(name)
	o.dst = appendText(o.dst, text)
}

func (o *object) textIf(name, text string) {
	if text != "" {
		o.text(name, text)
	}
}

func (o *object) raw(name string, value []byte) {
	if value != nil {
		o.name(name)
		o.dst = append(o.dst, value...)
	}
}

func (o *object) members(members []byte) {
	if len(members) > 0 {
		o.comma()
		o.dst = append(o.dst, members...)
	}
}
