package plain_test

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/gobwas/ws"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
	"github.com/comet-push/comet/services/edge/internal/frame"
	"github.com/comet-push/comet/services/edge/internal/plain"
)

// TestTranscripts plays testdata/transcripts: commands in, effects out. The
// commands are methods of transcript; go test -rewrite writes the effects anew.
// Cursors of several slots are shown as ~{channel:position …}, and the position
// of the slots of no channel that was named as *.
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/transcripts", func(t *testing.T, path string) {
		t.Helper()
		tr := &transcript{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			t.Helper()
			return tr.run(t, d)
		})
	})
}

// transcript is a reader and what a shell around it would know.
type transcript struct {
	cfg      plain.Config
	r        *plain.Reader
	channels []string
	socket   bool
	named    []string // channels that were named
	now      time.Time
	handed   map[shard.Slot]uint64
	reads    []plain.Read // unanswered
	pages    []plain.Page // of the oldest of them
	full     bool
	out      plain.Effects
	b        strings.Builder
}

func (tr *transcript) run(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	tr.b.Reset()
	switch d.Cmd {
	case "config":
		tr.configure(t, d)
	case "read":
		tr.read(t, d)
	case "joined":
		tr.joined(t, d)
	case "denied":
		tr.r.Subscribed(tr.now, tr.token(d), nil, bayeux.SubscribeDenied(bayeux.DeniedByPolicy), &tr.out)
	case "page":
		tr.page(t, d)
	case "deliver":
		tr.deliver(t, d)
	case "handed":
		at := tr.position(t, d.CmdArgs[0].String())
		tr.handed[at.Slot] = at.Offset
	case "lost":
		tr.r.Resync(tr.now, d.CmdArgs[0].Key, tr.position(t, d.CmdArgs[1].String()), &tr.out)
	case "full":
		tr.r.Blocked()
		tr.full = true
	case "writable":
		tr.full = false
		tr.r.Writable(tr.now, &tr.out)
	case "wait":
		tr.wait(t, d.CmdArgs[0].Key)
	case "end":
		tr.r.End(tr.now, plain.Reason(d.CmdArgs[0].Key), duration(t, d.CmdArgs[1].Key), &tr.out)
	case "gone":
		tr.r.Lost(&tr.out)
	default:
		t.Fatalf("unknown command %q", d.Cmd)
	}
	tr.flush(t)
	if tr.b.Len() == 0 {
		return "nothing"
	}
	return tr.b.String()
}

func (tr *transcript) configure(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	numbers := map[string]*int{
		"page": &tr.cfg.Page, "ahead": &tr.cfg.Ahead, "burst": &tr.cfg.Burst, "queue": &tr.cfg.QueueMessages, "queue-bytes": &tr.cfg.QueueBytes,
		"batch-bytes": &tr.cfg.BatchBytes, "frame-max-bytes": &tr.cfg.FrameMaxBytes,
	}
	policies := map[string]plain.Policy{}
	for _, a := range d.CmdArgs {
		n, known := numbers[a.Key]
		switch {
		case known:
			*n = number(t, a.Vals[0])
		case a.Key == "drop-oldest":
			policies[a.Vals[0]] = plain.DropOldest
		case a.Key == "conflate":
			policies[a.Vals[0]] = plain.Conflate
		default:
			t.Fatalf("unknown option %q", a.Key)
		}
	}
	tr.cfg.Slow = func(channel string) plain.Policy { return policies[channel] }
}

// read begins: a transport, channels, and options.
func (tr *transcript) read(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	tr.handed, tr.reads, tr.pages, tr.full, tr.channels, tr.named = map[shard.Slot]uint64{}, nil, nil, false, nil, nil
	tr.cfg.Handed = func(slot shard.Slot) uint64 { return tr.handed[slot] }
	req := plain.Request{Wait: 30 * time.Second, Limit: 100, Callback: "comet"}
	transport := d.CmdArgs[0].Key
	tr.socket = transport == "ws"
	switch transport {
	case "poll":
		req.Shape = plain.Poll
	case "long-poll":
		req.Shape = plain.LongPoll
	default:
		req.Encoding = map[string]event.Encoding{
			"sse": event.SSE, "stream": event.Line, "multipart": event.Part, "frame": event.Script, "ws": event.Text,
		}[transport]
	}
	since := ""
	for _, a := range d.CmdArgs[1:] {
		switch a.Key {
		case "since":
			since = strings.Join(a.Vals, " ")
		case "padding":
			req.Padding = number(t, a.Vals[0])
		case "wait":
			req.Wait = duration(t, a.Vals[0])
		case "limit":
			req.Limit = number(t, a.Vals[0])
		case "published":
			req.Published = tr.position(t, a.Vals[0])
		default:
			tr.channels = append(tr.channels, a.Key)
			tr.name(a.Key)
		}
	}
	req.Channels, req.Since = tr.channels, tr.since(t, since)
	tr.r = plain.New(tr.cfg.Defaults(), req, tr.now)
	tr.r.Start(tr.now, &tr.out)
}

// since is where to start: a word, or channel:position for each slot.
func (tr *transcript) since(t *testing.T, text string) shard.Since {
	t.Helper()
	if !strings.HasPrefix(text, "/") {
		since, err := shard.ParseSince(tr.channels, text)
		if err != nil {
			t.Fatal(err)
		}
		return since
	}
	since := shard.Since{At: map[shard.Slot]uint64{}}
	for _, slot := range shard.SlotsOf(tr.channels) {
		since.At[slot] = 1
	}
	for each := range strings.FieldsSeq(text) {
		at := tr.position(t, each)
		since.At[at.Slot] = at.Offset
	}
	return since
}

// position reads channel:offset.
func (tr *transcript) position(t *testing.T, text string) shard.Position {
	t.Helper()
	channel, offset, _ := strings.Cut(text, ":")
	tr.name(channel)
	return shard.Position{Slot: shard.Of(channel), Offset: uint64(number(t, offset))}
}

func (tr *transcript) name(channel string) {
	if !bayeux.IsPattern(channel) && !slices.Contains(tr.named, channel) {
		tr.named = append(tr.named, channel)
		slices.Sort(tr.named)
	}
}

func (tr *transcript) token(d *datadriven.TestData) uint64 {
	return uint64(slices.Index(tr.channels, d.CmdArgs[0].Key) + 1)
}

// joined answers an interest with channel:offset; a pattern stands at 1 where
// nothing else is said.
func (tr *transcript) joined(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	from := map[shard.Slot]uint64{}
	if channel := d.CmdArgs[0].Key; bayeux.IsPattern(channel) {
		for _, slot := range shard.SlotsOf([]string{channel}) {
			from[slot] = 1
		}
	}
	for _, a := range d.CmdArgs[1:] {
		at := tr.position(t, a.String())
		from[at.Slot] = at.Offset
	}
	var positions []shard.Position
	for slot, offset := range from {
		positions = append(positions, shard.Position{Slot: slot, Offset: offset})
	}
	tr.r.Subscribed(tr.now, tr.token(d), positions, nil, &tr.out)
}

// entries reads lines of: channel offset [data].
func (tr *transcript) entries(t *testing.T, input string) (events []*event.Event) {
	t.Helper()
	for line := range strings.Lines(input) {
		parts := strings.SplitN(strings.TrimSpace(line), " ", 3)
		data := parts[1]
		if len(parts) == 3 {
			data = parts[2]
		}
		tr.name(parts[0])
		at := shard.Position{Slot: shard.Of(parts[0]), Offset: uint64(number(t, parts[1]))}
		events = append(events, event.New(parts[0], at, []byte(data), nil, nil, tr.now))
	}
	return events
}

// page answers for the next slot of the oldest read, or all of it by an error.
func (tr *transcript) page(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	page := plain.Page{Events: tr.entries(t, d.Input)}
	var err *bayeux.Error
	for _, a := range d.CmdArgs {
		switch a.Key {
		case "through":
			page.Through = uint64(number(t, a.Vals[0]))
		case "lost":
			page.Lost = a.Vals
		case "error":
			err = bayeux.Unavailable()
		}
	}
	if err == nil {
		tr.pages = append(tr.pages, page)
	}
	if read := tr.reads[0]; err != nil || len(tr.pages) == len(read.Slots) {
		tr.r.Replayed(tr.now, read.Token, tr.pages, err, &tr.out)
		tr.reads, tr.pages = tr.reads[1:], nil
	}
}

// deliver gives entries to every interest that matches, or to those given.
func (tr *transcript) deliver(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	vias := tr.channels
	if len(d.CmdArgs) > 0 {
		vias = nil
		for _, a := range d.CmdArgs {
			vias = append(vias, a.Key)
		}
	}
	for _, e := range tr.entries(t, d.Input) {
		for _, via := range vias {
			if bayeux.Match(via, e.Channel) && tr.r.Deliver(tr.now, via, e, &tr.out) {
				tr.show(t, e.Frame(tr.r.Encoding()))
			}
			tr.flush(t)
		}
	}
}

// wait lets time pass, and the reader's deadlines with it.
func (tr *transcript) wait(t *testing.T, text string) {
	t.Helper()
	start, until := tr.now, tr.now.Add(duration(t, text))
	for {
		due := tr.r.Deadline()
		if due.IsZero() || due.After(until) {
			break
		}
		tr.now = due
		tr.r.Tick(tr.now, &tr.out)
		if len(tr.out.Frames)+len(tr.out.Interests) > 0 {
			fmt.Fprintf(&tr.b, "after %v:\n", tr.now.Sub(start))
		}
		tr.flush(t)
	}
	tr.now = until
}

// flush prints the effects, and calls Writable where that is asked for.
func (tr *transcript) flush(t *testing.T) {
	t.Helper()
	for {
		out := tr.out
		tr.out = plain.Effects{}
		tr.print(t, &out)
		if !out.More || tr.full {
			return
		}
		tr.r.Writable(tr.now, &tr.out)
	}
}

func (tr *transcript) print(t *testing.T, out *plain.Effects) {
	t.Helper()
	for _, f := range out.Frames {
		tr.show(t, f)
	}
	if out.Answer.Body != nil {
		fmt.Fprintf(&tr.b, "answer %s\n", tr.readable(out.Answer.Body))
	}
	if out.Refused != nil {
		fmt.Fprintf(&tr.b, "refused %s: %v\n", out.Refused.Channel, out.Refused.Err)
	}
	for _, i := range out.Interests {
		fmt.Fprintf(&tr.b, "%s %s\n", map[bool]string{true: "leave", false: "join"}[i.Leave], i.Channel)
	}
	for _, read := range out.Reads {
		tr.reads = append(tr.reads, read)
		for _, q := range read.Slots {
			since := "since " + strconv.FormatUint(q.Since, 10)
			if q.Earliest {
				since = "the earliest"
			}
			fmt.Fprintf(&tr.b, "read %s %s, to %d at least, %d at most\n", strings.Join(q.Channels, " "), since, q.Through, q.Limit)
		}
	}
	if out.Dropped != (plain.Dropped{}) {
		fmt.Fprintf(&tr.b, "dropped %+v\n", out.Dropped)
	}
	if out.Ended != "" {
		fmt.Fprintf(&tr.b, "ended: %s\n", out.Ended)
	}
	if out.Last != nil {
		tr.show(t, out.Last)
	}
}

// show prints a frame, each of its lines behind a mark.
func (tr *transcript) show(t *testing.T, f *frame.Frame) {
	t.Helper()
	text := tr.readable(f.Payload())
	if tr.socket {
		header, err := ws.ReadHeader(strings.NewReader(string(f.Wire())))
		if err != nil {
			t.Fatal(err)
		}
		switch header.OpCode {
		case ws.OpPing:
			text = "ping"
		case ws.OpClose:
			text = fmt.Sprint("close ", binary.BigEndian.Uint16(f.Payload()), " ", string(f.Payload()[2:]))
		}
	}
	for line := range strings.Lines(text) {
		tr.b.WriteString(strings.TrimRight("| "+strings.ReplaceAll(line, "\r", "␍"), " \n") + "\n")
	}
}

// readable shows what cursors say.
func (tr *transcript) readable(text []byte) string {
	return regexp.MustCompile(`~[A-Za-z0-9_-]+`).ReplaceAllStringFunc(string(text), func(cursor string) string {
		at, err := shard.ParseCursor(tr.channels, cursor)
		if err != nil {
			return err.Error()
		}
		var parts []string
		for _, name := range tr.named {
			if offset, ok := at[shard.Of(name)]; ok {
				parts = append(parts, fmt.Sprintf("%s:%d", name, offset))
			}
		}
		for _, name := range tr.named {
			delete(at, shard.Of(name))
		}
		for _, offset := range at {
			parts = append(parts, fmt.Sprintf("*:%d", offset))
			break
		}
		return "~{" + strings.Join(parts, " ") + "}"
	})
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
