package session_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
	"github.com/comet-push/comet/services/edge/internal/session"
)

// flush prints the effects, carries them out, and reports answers as written.
func (tr *transcript) flush() {
	out := tr.out
	tr.out = session.Effects{}
	for _, i := range out.Interests {
		if i.Leave {
			fmt.Fprintf(&tr.b, "leave %s\n", i.Channel)
			delete(tr.joined, i.Channel)
			continue
		}
		fmt.Fprintf(&tr.b, "join %s\n", i.Channel)
		tr.joins[i.Channel] = i.Token
	}
	for _, p := range out.Publishes {
		tr.pubs = append(tr.pubs, p.Token)
		fmt.Fprintf(&tr.b, "publish %d: %s %s", len(tr.pubs), p.Channel, p.Data)
		for _, part := range []struct{ name, text string }{
			{"ext", string(p.Ext)},
			{"members", string(p.Members)},
			{"session", p.Session},
			{"id", p.ID},
		} {
			if part.text != "" {
				fmt.Fprintf(&tr.b, " %s=%s", part.name, part.text)
			}
		}
		tr.b.WriteByte('\n')
	}
	for _, r := range out.Replays {
		names := strings.Join(r.Channels, " ")
		tr.pages[names] = r.Token
		since := strconv.FormatUint(r.Since, 10)
		if r.Earliest {
			since = "the earliest"
		}
		fmt.Fprintf(&tr.b, "replay %s since %s, %d at most\n", names, since, r.Limit)
	}
	for _, i := range out.Places {
		tr.joins[i.Channel] = i.Token
		fmt.Fprintf(&tr.b, "where is %s\n", i.Channel)
	}
	for _, list := range []struct {
		name     string
		channels []string
	}{{"joined", out.Joined}, {"left", out.Left}, {"stray", out.Stray}} {
		if len(list.channels) > 0 {
			fmt.Fprintf(&tr.b, "%s %s\n", list.name, strings.Join(list.channels, " "))
		}
	}
	for _, c := range out.Carried {
		if c.Err != nil {
			fmt.Fprintf(&tr.b, "order %d: %s\n", c.Order, c.Err)
		} else {
			fmt.Fprintf(&tr.b, "order %d is carried out\n", c.Order)
		}
	}
	for _, d := range []struct {
		reason string
		n      int
	}{
		{"", out.Dropped.Overflow},
		{" oldest", out.Dropped.Oldest},
		{" conflated", out.Dropped.Conflated},
		{" by age", out.Dropped.Age},
	} {
		if d.n > 0 {
			fmt.Fprintf(&tr.b, "dropped %d%s\n", d.n, d.reason)
		}
	}
	if out.Held != 0 {
		fmt.Fprintf(&tr.b, "hold %d\n", out.Held)
	}
	for _, a := range out.Answers {
		if a.Socket != 0 {
			tr.print(fmt.Sprintf("socket %d", a.Socket), a.Body)
			continue
		}
		if a.Status != 200 {
			fmt.Fprintf(&tr.b, "answer %d: %d\n", a.Exchange, a.Status)
			continue
		}
		tr.print(fmt.Sprintf("answer %d", a.Exchange), a.Body)
	}
	for e := range out.Pushes.All() {
		text := e.JSON()
		if out.Pushes.As == event.ReplayText {
			text = e.Replay()
		}
		fmt.Fprintf(&tr.b, "push %d: %s\n", out.Pushes.Socket, text)
	}
	if out.Pushes.Ping != 0 {
		fmt.Fprintf(&tr.b, "ping %d: %d\n", out.Pushes.Socket, out.Pushes.Ping)
	}
	if out.Ended != "" {
		fmt.Fprintf(&tr.b, "ended: %s\n", out.Ended)
	}
	for _, a := range out.Answers {
		if !tr.manual && a.Socket == 0 {
			tr.s.Written(tr.now, a.Exchange, &tr.out)
		}
	}
	if tr.out.Ended != "" { // since all is written
		tr.flush()
	}
}

// print prints a body with one message per line.
func (tr *transcript) print(where string, body []byte) {
	var messages []json.RawMessage
	if err := json.Unmarshal(body, &messages); err != nil {
		fmt.Fprintf(&tr.b, "%s is broken: %v\n", where, err)
	}
	fmt.Fprintf(&tr.b, "%s:\n", where)
	for _, m := range messages {
		fmt.Fprintf(&tr.b, "  %s\n", m)
	}
}

func (tr *transcript) state() string {
	due := "never"
	if at := tr.s.Deadline(); !at.IsZero() {
		due = "in " + at.Sub(tr.now).String()
	}
	text := fmt.Sprintf("channels %v, queued %d, holding %v, deadline %s",
		tr.s.Channels(), tr.s.Queued(), tr.s.Holding(), due)
	if n := tr.s.Socket(); n != 0 {
		text += fmt.Sprintf(", socket %d", n)
	}
	return text
}

func parseEvent(t *testing.T, line string) *event.Event {
	t.Helper()
	parts := strings.SplitN(strings.TrimSpace(line), " ", 4)
	data, ext := parts[1], ""
	if len(parts) > 2 {
		data = parts[2]
	}
	if len(parts) > 3 {
		ext = parts[3]
	}
	at := shard.Position{Slot: shard.Of(parts[0]), Offset: uint64(number(t, parts[1]))}
	var raw []byte
	if ext != "" {
		raw = []byte(ext)
	}
	return event.New(parts[0], at, []byte(data), raw, nil, time.Time{})
}

func failure(d *datadriven.TestData) *bayeux.Error {
	if d.HasArg("fail") {
		return bayeux.Unavailable()
	}
	return nil
}

func arg(t *testing.T, d *datadriven.TestData, name string) uint64 {
	t.Helper()
	var text string
	d.ScanArgs(t, name, &text)
	return uint64(number(t, text))
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func duration(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
