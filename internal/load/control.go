package load

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// control is what a plain transport says besides messages.
type control struct {
	Type   string          `json:"type"`
	Cursor json.RawMessage `json:"cursor"`
	Reason string          `json:"reason"`
	Retry  int             `json:"retry"` // milliseconds
}

// findControl returns the text of the control object in a line, nil if there is
// none.
func findControl(line []byte) []byte {
	from := bytes.Index(line, []byte(`{"type":"`))
	to := bytes.LastIndexByte(line, '}')
	if from < 0 || to < from {
		return nil
	}
	return line[from : to+1]
}

// control follows a control object.
func (c *client) control(text []byte) error {
	var o control
	if err := json.Unmarshal(text, &o); err != nil {
		return fmt.Errorf("the server sent a control object that is no JSON: %s", clip(text))
	}
	c.at(o.Cursor)
	switch o.Type {
	case "open":
		c.subscribed()
	case "resync":
		c.tally.resyncs++
	case "end":
		return &again{after: time.Duration(o.Retry) * time.Millisecond, reason: "the server ended a stream: " + o.Reason}
	}
	return nil
}

// at takes a cursor as JSON has it.
func (c *client) at(cursor json.RawMessage) {
	if len(cursor) > 0 {
		c.cursor = append(c.cursor[:0], bytes.Trim(cursor, `"`)...)
	}
}

// refusal is a response other than the one that was hoped for.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string {
	text := fmt.Sprintf("status %d %s", r.status, http.StatusText(r.status))
	if r.text != "" {
		text += ": " + r.text
	}
	return text
}

// refused makes the error of a whole response. It takes from the body what
// explains it: a problem document's or a gateway's words, or else its beginning.
func refused(status int, body []byte) error {
	var problem struct{ Reason, Detail, Message string }
	if json.Unmarshal(body, &problem) == nil && (problem.Reason != "" || problem.Message != "") {
		text := strings.TrimSpace(problem.Reason + " " + problem.Detail + problem.Message)
		return &refusal{status: status, text: text}
	}
	return &refusal{status: status, text: clip(body)}
}

// clip is the beginning of a text, in one line.
func clip(b []byte) string {
	const most = 200
	if len(b) > most {
		b = b[:most]
	}
	return strings.Join(strings.Fields(string(b)), " ")
}
