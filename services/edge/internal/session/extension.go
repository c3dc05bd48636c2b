package session

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/comet-push/comet/bayeux"
)

// extension is the ext of a reply.
type extension struct {
	agreed        bool // a handshake's: says what was agreed on
	acks, replays bool
	ack           uint64   // a connect's batch, 0: none
	resync        []string // channels that lost events
	timesync      *timesync
}

// timesync is what a client sent to set its clock, and when it came.
type timesync struct {
	bayeux.Timesync
	arrived time.Time
}

func syncOf(m *bayeux.Message, arrived time.Time) *timesync {
	if len(m.Ext) == 0 {
		return nil
	}
	if t, ok := bayeux.ParseTimesync(m.Ext); ok {
		return &timesync{t, arrived}
	}
	return nil
}

// json returns the ext member, nil if it would be empty.
func (x extension) json(now time.Time) json.RawMessage {
	var ext []byte
	member := func(name string) {
		ext = append(append(append(ext, ',', '"'), name...), '"', ':')
	}
	if x.agreed && x.acks {
		member("ack")
		ext = append(ext, "true"...)
	}
	if x.agreed && x.replays {
		member("replay")
		ext = append(ext, "true"...)
	}
	if x.ack != 0 {
		member("ack")
		ext = strconv.AppendUint(ext, x.ack, 10)
	}
	if len(x.resync) > 0 {
		member("comet")
		ext = append(ext, `{"resync":[`...)
		for _, channel := range x.resync {
			ext = append(strconv.AppendQuote(ext, channel), ',')
		}
		ext = append(ext[:len(ext)-1], ']', '}')
	}
	if x.timesync != nil {
		if text := x.timesync.AppendReply(nil, x.timesync.arrived, now.Sub(x.timesync.arrived)); len(text) > 0 {
			member("timesync")
			ext = append(ext, text...)
		}
	}
	if ext == nil {
		return nil
	}
	ext[0] = '{'
	return append(ext, '}')
}

func (e *Effects) answer(ex Exchange, socket uint64, body []byte) {
	e.Answers = append(e.Answers, Answer{Exchange: ex, Socket: socket, Status: statusOK, Body: body})
}

// replyTo makes the reply to a message. It has a timestamp if the message has
// one: that is how clients say that they want it.
func replyTo(m *bayeux.Message, err *bayeux.Error) bayeux.Message {
	r := m.Reply(err)
	if m.Timestamp != "" {
		r.Timestamp = asNow
	}
	return r
}

// asNow is a timestamp for appendReply to fill in.
const asNow = "now"

// appendReply encodes a reply; a timestamp becomes now.
func appendReply(dst []byte, now time.Time, m *bayeux.Message) []byte {
	if m.Timestamp != "" {
		m.Timestamp = now.UTC().Format(bayeux.TimestampLayout)
	}
	return m.AppendJSON(dst)
}
