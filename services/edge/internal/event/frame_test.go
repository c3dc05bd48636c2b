package event_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
	"github.com/comet-push/comet/services/edge/internal/frame"
)

// client reads the messages of a stream as browsers do, and the ids they have
// besides.
type client func(stream []byte) (messages [][]byte, ids []string, err error)

func clients() map[event.Encoding]client {
	return map[event.Encoding]client{
		event.SSE: readEvents, event.SSEWithoutID: readEvents, event.Line: readLines,
		event.Part: readParts, event.Script: readScripts, event.Text: readSocket,
	}
}

// What a client reads, whatever the encoding, is what was published, and one
// message does not spill into the next.
func checkClients(data, ext []byte) error {
	at := shard.Position{Offset: 3735928559012345}
	e := event.New("/a/b", at, data, ext, []byte(`"x":1`), time.Time{})
	next := event.New("/a/b", shard.Position{Offset: at.Offset + 1}, []byte(`"next"`), nil, nil, time.Time{})
	for as, read := range clients() {
		var stream []byte
		for _, each := range []*event.Event{e, next} {
			f := each.Frame(as)
			if as == event.Text {
				stream = append(stream, f.Wire()...)
			} else {
				stream = append(stream, f.Payload()...)
			}
		}
		messages, ids, err := read(stream)
		if err != nil {
			return fmt.Errorf("encoding %d: %w\n%q", as, err, stream)
		}
		if len(messages) != 2 {
			return fmt.Errorf("encoding %d: %d messages\n%q", as, len(messages), stream)
		}
		if want := map[bool]string{true: "[3735928559012345 3735928559012346]", false: "[]"}[as == event.SSE]; fmt.Sprint(ids) != want {
			return fmt.Errorf("encoding %d: ids %v, want %s", as, ids, want)
		}
		if err := checkMessage(messages[0], data, ext, as == event.Script); err != nil {
			return fmt.Errorf("encoding %d: %w\n%q", as, err, stream)
		}
	}
	return nil
}

// checkMessage compares a message with what was published. Escaped, it is the
// same value but not the same bytes.
func checkMessage(message, data, ext []byte, escaped bool) error {
	var got struct {
		Channel   string
		Position  uint64
		Data, Ext json.RawMessage
		X         any // members of Bayeux are not for plain channels
	}
	if err := json.Unmarshal(message, &got); err != nil {
		return err
	}
	if got.Channel != "/a/b" || got.Position != 3735928559012345 || got.X != nil {
		return fmt.Errorf("channel %s, position %d, x %v", got.Channel, got.Position, got.X)
	}
	form := compact
	if escaped {
		form = decode
	}
	if diff := cmp.Diff(form(data), form(got.Data)); diff != "" {
		return fmt.Errorf("data (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(form(ext), form(got.Ext)); diff != "" {
		return fmt.Errorf("ext (-want +got):\n%s", diff)
	}
	return nil
}

func compact(raw []byte) any {
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil && len(raw) > 0 {
		return err.Error()
	}
	return b.String()
}

func decode(raw []byte) any {
	var v any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&v); err != nil && len(raw) > 0 {
		return err.Error()
	}
	return v
}

// readEvents follows the HTML standard, 9.2.6.
func readEvents(stream []byte) (messages [][]byte, ids []string, err error) {
	text := strings.ReplaceAll(strings.ReplaceAll(string(stream), "\r\n", "\n"), "\r", "\n")
	var data []string
	for line := range strings.SplitSeq(text, "\n") {
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "" && len(data) > 0:
			messages = append(messages, []byte(strings.Join(data, "\n")))
			data = nil
		case line == "":
		case field == "data":
			data = append(data, value)
		case field == "id":
			ids = append(ids, value)
		default:
			return nil, nil, fmt.Errorf("a field %q", line)
		}
	}
	return messages, ids, nil
}

func readLines(stream []byte) (messages [][]byte, _ []string, err error) {
	rest, whole := bytes.CutSuffix(stream, []byte("\n"))
	if !whole {
		return nil, nil, errors.New("no end of the last line")
	}
	return bytes.FieldsFunc(rest, func(r rune) bool { return r == '\n' || r == '\r' }), nil, nil
}

func readParts(stream []byte) (messages [][]byte, _ []string, err error) {
	last := frame.LastPart([]byte("{}")).Payload()
	r := multipart.NewReader(io.MultiReader(strings.NewReader("--comet\r\n"), bytes.NewReader(stream), bytes.NewReader(last)), "comet")
	for {
		part, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return messages[:len(messages)-1], nil, nil
		}
		if err != nil {
			return nil, nil, err
		}
		body, err := io.ReadAll(part)
		if err != nil || part.Header.Get("Content-Type") != "application/json" {
			return nil, nil, fmt.Errorf("part with %v: %w", part.Header, err)
		}
		messages = append(messages, body)
	}
}

// readScripts takes no more than it has to from a script: where HTML or an old
// JavaScript might see more than a call, it is an error.
func readScripts(stream []byte) (messages [][]byte, _ []string, err error) {
	rest := string(stream)
	for rest != "" {
		script, after, whole := strings.Cut(rest, ")</script>\n")
		argument, call := strings.CutPrefix(script, "<script>c(")
		if !whole || !call || strings.ContainsAny(argument, "<>&\u2028\u2029") {
			return nil, nil, fmt.Errorf("a script %q", script)
		}
		rest = after
		if text, ok := strings.CutPrefix(argument, "JSON.parse("); ok {
			if err := json.Unmarshal([]byte(strings.TrimSuffix(text, ")")), &argument); err != nil {
				return nil, nil, fmt.Errorf("a string %q: %w", text, err)
			}
		} else if err := refuseProto(argument); err != nil {
			return nil, nil, err
		}
		messages = append(messages, []byte(argument))
	}
	return messages, nil, nil
}

// refuseProto refuses what would set the prototype of an object.
func refuseProto(literal string) error {
	d := json.NewDecoder(strings.NewReader(literal))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if token == "__proto__" {
			return fmt.Errorf("a prototype is set: %q", literal)
		}
	}
}

func readSocket(stream []byte) (messages [][]byte, _ []string, err error) {
	r := bytes.NewReader(stream)
	for r.Len() > 0 {
		f, err := ws.ReadFrame(r)
		if err != nil || f.Header.OpCode != ws.OpText {
			return nil, nil, fmt.Errorf("frame %+v: %w", f.Header, err)
		}
		messages = append(messages, f.Payload)
	}
	return messages, nil, nil
}

func TestClientsReadWhatWasPublished(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := value(3).Draw(t, "data")
		var ext []byte
		if rapid.Bool().Draw(t, "ext") {
			ext = []byte("{" + space().Draw(t, "space") + `"y":` + value(1).Draw(t, "ext") + "}")
		}
		if err := checkClients([]byte(data), ext); err != nil {
			t.Fatal(err)
		}
	})
}

// value is JSON with all that may be mistaken for something else.
func value(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		kinds := 2
		if depth > 0 {
			kinds = 4
		}
		text := ""
		switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
		case 0:
			text = rapid.SampledFrom([]string{"null", "true", "-1.50e+3", "9007199254740993", "[]", "{}"}).Draw(t, "atom")
		case 1:
			text = str().Draw(t, "string")
		case 2:
			text = "[" + value(depth-1).Draw(t, "first") + "," + value(depth-1).Draw(t, "second") + "]"
		case 3:
			text = "{" + str().Draw(t, "name") + space().Draw(t, "space") + ":" + value(depth-1).Draw(t, "member") + "}"
		}
		return space().Draw(t, "before") + text + space().Draw(t, "after")
	})
}

func space() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{"", " ", "\n", "\r\n\t", "\r", "\n\n"})
}

func str() *rapid.Generator[string] {
	pieces := rapid.SliceOfN(rapid.SampledFrom([]string{
		"a", "</script>", "<!--", "]]>", "&lt;", "\u2028", "\u2029", "\u201c", "é", "\U0001F600", `\ud800`, `\n`, `\u000a`, `\\`, `\"`,
		"data: x", "id: 1", "--comet--", "__proto__", `_\u005fproto__`, `\u003c`, "c(", ")", "\x7f", ":",
	}), 0, 4)
	return rapid.Custom(func(t *rapid.T) string { return `"` + strings.Join(pieces.Draw(t, "pieces"), "") + `"` })
}

func FuzzClientsReadWhatWasPublished(f *testing.F) {
	for _, seed := range []string{
		`{}`, `"</script>"`, "{\r\n\"a\":\r1}", "\"\u2028\"", `{"__proto__":{},"__proto__":1}`, `{"\u005f_proto__":1}`, "[\n\n\"--comet\"]",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if bayeux.CheckValue(data, 64) != nil {
			return
		}
		if err := checkClients(data, nil); err != nil {
			t.Fatal(err)
		}
	})
}

// A form is made once, and shared.
func TestFramesAreShared(t *testing.T) {
	e := event.New("/a", shard.Position{Offset: 1}, []byte("1"), nil, nil, time.Time{})
	for as := range clients() {
		if made := e.Frame(as); made != e.Frame(as) {
			t.Errorf("encoding %d is made twice", as)
		}
		if got := testing.AllocsPerRun(10, func() { e.Frame(as) }); got != 0 {
			t.Errorf("encoding %d allocates %v times", as, got)
		}
	}
}

func TestBayeuxFrames(t *testing.T) {
	e := event.New("/a", shard.Position{Offset: 7}, []byte(`{"b":1}`), []byte(`{"c":2}`), nil, time.Time{})
	for as, want := range map[event.Encoding]string{
		event.BayeuxText: `[{"channel":"/a","data":{"b":1},"ext":{"c":2}}]`,
		event.ReplayText: `[{"channel":"/a","data":{"b":1},"ext":{"c":2,"replay":{"id":7}}}]`,
	} {
		if got := string(e.Frame(as).Payload()); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
