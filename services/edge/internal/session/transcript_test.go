package session_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
	"github.com/comet-push/comet/services/edge/internal/session"
)

// TestTranscripts plays testdata/transcripts: commands in, effects out. The commands are
// methods of transcript; go test -rewrite writes the effects anew.
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/transcripts", func(t *testing.T, path string) {
		t.Helper()
		tr := &transcript{cfg: session.Config{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			t.Helper()
			return tr.run(t, d)
		})
	})
}

// transcript is a session and what a shell around it would know.
type transcript struct {
	cfg    session.Config
	s      *session.Session
	now    time.Time
	out    session.Effects
	next   session.Exchange
	joins  map[string]uint64 // tokens not answered
	pubs   []uint64
	pages  map[string]uint64
	joined map[string]bool // interests
	snap   *session.Snapshot
	orders session.Order
	manual bool // Written is not called for answers
	b      strings.Builder
}

func (tr *transcript) run(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	tr.b.Reset()
	switch d.Cmd {
	case "config":
		tr.configure(t, d)
	case "session":
		tr.start(d)
	case "send":
		tr.send(t, d)
	case "wait":
		tr.wait(t, d.CmdArgs[0].Key)
	case "subscribed":
		tr.subscribed(t, d)
	case "published":
		tr.published(t, d)
	case "replayed":
		tr.replayed(t, d)
	case "deliver":
		tr.deliver(t, d)
	case "message":
		tr.message(t, d)
	case "tell":
		e := event.NewMessage(d.CmdArgs[0].Key, []byte(d.Input), nil, "", false)
		fmt.Fprintf(&tr.b, "told %v\n", tr.s.Tell(tr.now, e, &tr.out))
	case "resync":
		tr.s.Resync(tr.now, d.CmdArgs[0].Key)
	case "lost":
		tr.s.Lost(tr.now, tr.exchange(t, d), &tr.out)
	case "unbind":
		tr.s.Unbind(tr.now, uint64(tr.exchange(t, d)), &tr.out)
	case "pong":
		tr.s.Pong(tr.now, uint64(tr.exchange(t, d)), byte(arg(t, d, "ping")), &tr.out)
	case "beat":
		fmt.Fprintf(&tr.b, "beat %v\n", tr.s.Beat(tr.now, tr.now.Add(duration(t, d.CmdArgs[0].Key)), &tr.out))
	case "blocked":
		tr.s.Blocked(tr.now, uint64(tr.exchange(t, d)))
	case "writable":
		tr.s.Writable(tr.now, uint64(tr.exchange(t, d)), &tr.out)
	case "written":
		tr.s.Written(tr.now, tr.exchange(t, d), &tr.out)
	case "drain":
		tr.s.Drain(tr.now, duration(t, d.CmdArgs[0].Key), false, &tr.out)
	case "enlist", "withdraw":
		tr.order(d)
	case "end":
		tr.s.End(tr.now, session.Reason(d.CmdArgs[0].Key), &tr.out)
	case "snapshot", "resume", "behind", "move", "restore":
		tr.goOn(t, d)
	case "state":
		return tr.state()
	default:
		t.Fatalf("unknown command %q", d.Cmd)
	}
	tr.flush()
	if tr.b.Len() == 0 {
		return "nothing"
	}
	return tr.b.String()
}

func (tr *transcript) configure(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	for _, a := range d.CmdArgs {
		v := ""
		if len(a.Vals) > 0 {
			v = a.Vals[0]
		}
		switch a.Key {
		case "timeout":
			tr.cfg.Timeout = duration(t, v)
		case "interval":
			tr.cfg.Interval = duration(t, v)
		case "advise-max-interval":
			tr.cfg.AdviseMaxInterval = true
		case "queue":
			tr.cfg.QueueMessages = number(t, v)
		case "queue-bytes":
			tr.cfg.QueueBytes = number(t, v)
		case "queue-age":
			tr.cfg.QueueAge = duration(t, v)
		case "slow":
			tr.cfg.Slow = policies(t, a.Vals)
		case "subscriptions":
			tr.cfg.Subscriptions = number(t, v)
		case "exchanges":
			tr.cfg.Exchanges = number(t, v)
		case "piggyback":
			tr.cfg.Piggyback = true
		case "deny":
			tr.cfg.MaySubscribe = func(_, channel string) *bayeux.Error {
				if bayeux.Match(v, channel) {
					return bayeux.SubscribeDenied(bayeux.DeniedByPolicy)
				}
				return nil
			}
			tr.cfg.MayPublish = func(_, channel string, _ int) *bayeux.Error {
				if bayeux.Match(v, channel) {
					return bayeux.PublishDenied(bayeux.DeniedByPolicy)
				}
				return nil
			}
		default:
			t.Fatalf("unknown option %q", a.Key)
		}
	}
}

// policies are those of channels and patterns: /a:conflate.
func policies(t *testing.T, list []string) func(string) session.Policy {
	t.Helper()
	words := map[string]session.Policy{
		"recover": session.Recover, "drop-oldest": session.DropOldest, "conflate": session.Conflate,
	}
	for _, entry := range list {
		if _, word, _ := strings.Cut(entry, ":"); word != "recover" && words[word] == session.Recover {
			t.Fatalf("no policy %q", entry)
		}
	}
	return func(channel string) session.Policy {
		for _, entry := range list {
			pattern, word, _ := strings.Cut(entry, ":")
			if bayeux.Match(pattern, channel) {
				return words[word]
			}
		}
		return session.Recover
	}
}

// start makes a session; with args, it has shaken hands and sent its first
// connect (exchanges 1 and 2) asking for these extensions, "plain" for none.
func (tr *transcript) start(d *datadriven.TestData) {
	*tr = transcript{
		cfg: tr.cfg, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		joins: map[string]uint64{}, pages: map[string]uint64{}, joined: map[string]bool{},
	}
	tr.s = session.New(tr.cfg.Defaults(), "S", "public", "ann")
	if len(d.CmdArgs) == 0 {
		return
	}
	ext := ""
	for _, a := range d.CmdArgs {
		if a.Key == "manual" {
			tr.manual = true
		} else if a.Key != "plain" {
			ext += fmt.Sprintf(`,%q:true`, a.Key)
		}
	}
	ext = "{" + strings.TrimPrefix(ext, ",") + "}"
	for _, body := range []string{
		`{"channel":"/meta/handshake","version":"1.0","supportedConnectionTypes":["long-polling"],"ext":` + ext + `}`,
		`{"channel":"/meta/connect","clientId":"S"}`,
	} {
		in, err := bayeux.Decode([]byte(body), bayeux.Limits{})
		if err != nil {
			panic(err)
		}
		tr.next++
		tr.receive(session.Request{Exchange: tr.next, Messages: in})
		tr.s.Written(tr.now, tr.next, &tr.out)
		tr.out.Reset()
	}
}

func (tr *transcript) receive(r session.Request) {
	if _, handshake := session.Route(r.Messages); handshake {
		tr.s.Handshake(tr.now, r, &tr.out)
		return
	}
	tr.s.Receive(tr.now, r, &tr.out)
}

// send is a request with the messages in the input. The clientId of those that
// have none is added, unless they are a stranger's.
func (tr *transcript) send(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	in, err := bayeux.Decode([]byte(d.Input), bayeux.Limits{})
	if err != nil {
		fmt.Fprintf(&tr.b, "undecodable: %v\n", err)
		return
	}
	for i := range in {
		if in[i].ClientID == "" && !d.HasArg("stranger") {
			in[i].ClientID = tr.s.ID()
		}
	}
	tr.next++
	fmt.Fprintf(&tr.b, "exchange %d\n", tr.next)
	if d.HasArg("unknown") {
		tr.print("answer 0", session.Unknown(tr.cfg.Defaults(), tr.now, in))
		return
	}
	r := session.Request{Exchange: tr.next, Messages: in, NoHold: d.HasArg("no-hold")}
	if d.HasArg("socket") {
		r.Socket = arg(t, d, "socket")
	}
	tr.receive(r)
}

// wait lets time pass, and ticks when the deadline comes.
func (tr *transcript) wait(t *testing.T, d string) {
	t.Helper()
	until := tr.now.Add(duration(t, d))
	for {
		at := tr.s.Deadline()
		if at.IsZero() || at.After(until) {
			break
		}
		fmt.Fprintf(&tr.b, "after %v:\n", at.Sub(tr.now))
		tr.now = at
		tr.s.Tick(tr.now, &tr.out)
		tr.flush()
	}
	tr.now = until
}

func (tr *transcript) subscribed(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	channel := d.CmdArgs[0].Key
	token, ok := tr.joins[channel]
	if !ok {
		t.Fatalf("no join of %s", channel)
	}
	delete(tr.joins, channel)
	var from []shard.Position
	if d.HasArg("at") {
		offset := arg(t, d, "at")
		from = []shard.Position{{Slot: shard.Of(channel), Offset: offset}}
		if bayeux.IsPattern(channel) {
			from = nil
			for slot := range shard.Slot(shard.Slots) {
				from = append(from, shard.Position{Slot: slot, Offset: offset})
			}
		}
	}
	tr.joined[channel] = !d.HasArg("fail")
	tr.s.Subscribed(tr.now, token, from, failure(d), &tr.out)
}

func (tr *transcript) published(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	i := number(t, d.CmdArgs[0].Key) - 1
	tr.s.Published(tr.now, tr.pubs[i], failure(d), &tr.out)
}

// replayed answers a replay of a channel, or of some; then lines name theirs.
func (tr *transcript) replayed(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	var names []string
	for _, a := range d.CmdArgs {
		if strings.HasPrefix(a.Key, "/") {
			names = append(names, a.Key)
		}
	}
	name := strings.Join(names, " ")
	token, ok := tr.pages[name]
	if !ok {
		t.Fatalf("no replay of %s", name)
	}
	delete(tr.pages, name)
	page := session.Page{}
	if d.HasArg("lost") {
		page.Lost = names[:1]
	}
	if d.HasArg("through") {
		page.Through = arg(t, d, "through")
	}
	for line := range strings.Lines(d.Input) {
		if len(names) == 1 {
			line = name + " " + line
		}
		page.Events = append(page.Events, parseEvent(t, line))
	}
	tr.s.Replayed(tr.now, token, page, failure(d), &tr.out)
}

// deliver gives entries, one per line as channel, offset and data, through
// every interest that matches, as a hub would.
func (tr *transcript) deliver(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	for line := range strings.Lines(d.Input) {
		e := parseEvent(t, line)
		vias := []string{}
		for channel, on := range tr.joined {
			if on && bayeux.Match(channel, e.Channel) {
				vias = append(vias, channel)
			}
		}
		slices.Sort(vias)
		for _, via := range vias {
			tr.s.Deliver(tr.now, via, e, &tr.out)
		}
	}
}

func (tr *transcript) message(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	var id string
	if d.HasArg("id") {
		d.ScanArgs(t, "id", &id)
	}
	tr.s.Send(tr.now, event.NewMessage(d.CmdArgs[0].Key, []byte(d.Input), nil, id, d.HasArg("failed")), &tr.out)
}

func (tr *transcript) exchange(t *testing.T, d *datadriven.TestData) session.Exchange {
	t.Helper()
	return session.Exchange(number(t, d.CmdArgs[0].Key))
}
