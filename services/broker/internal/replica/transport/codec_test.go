package transport

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
	"github.com/comet-push/comet/services/broker/internal/replica"
)

// through sends a batch over the wire.
func through(ping uint64, items ...item) (frames []frame, wire int, err error) {
	batch := encode(nil, ping, items)
	wire = len(batch)
	for len(batch) > 0 {
		b, rest, ok := cut(batch)
		if !ok {
			return nil, 0, errors.New("half a frame")
		}
		f, err := decode(b)
		if err != nil {
			return nil, 0, err
		}
		frames, batch = append(frames, f), rest
	}
	return frames, wire, nil
}

// entriesAlike compares entries, sealed or not.
var entriesAlike = cmp.Transformer("encoded", func(e *history.Entry) string { return string(e.AppendTo(nil)) })

func TestMessagesSurviveTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.Custom(drawItem), 1, 5).Draw(t, "items")
		frames, wire, err := through(0, want...)
		if err != nil || len(frames) != len(want) {
			t.Fatal(len(frames), err)
		}
		bytes := 0
		for i, f := range frames {
			if f.slot != want[i].slot {
				t.Errorf("slot %d, want %d", f.slot, want[i].slot)
			}
			if diff := cmp.Diff(want[i].message, f.message, cmpopts.EquateEmpty(), entriesAlike); diff != "" {
				t.Error(diff)
			}
			bytes += size(f.message)
		}
		if wire > bytes {
			t.Errorf("%d bytes on the wire, expected at most %d", wire, bytes)
		}
	})
}

func TestPingsAndPongsSurviveTheWire(t *testing.T) {
	frames, _, err := through(1<<63, item{frame: frame{pong: 1<<64 - 1}}, item{})
	if err != nil || len(frames) != 3 || frames[0].ping != 1<<63 || frames[1].pong != 1<<64-1 {
		t.Fatal(frames, err)
	}
	for _, f := range frames {
		if f.message != nil {
			t.Errorf("%v is a message", f)
		}
	}
}

// TestHotFramesAreProtobuf: what is written by hand protobuf reads alike, and
// the other way round.
func TestHotFramesAreProtobuf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := rapid.OneOf(rapid.Custom(drawAck), rapid.Custom(drawAppend)).Draw(t, "message")
		batch := encode(nil, 0, []item{{frame: frame{slot: 9, message: m}}})
		b, _, _ := cut(batch)
		byHand, ok, err := readHot(b)
		if !ok || err != nil {
			t.Fatalf("%+v is not read by hand: %v", m, err)
		}
		any, err := decodeAny(b)
		if diff := cmp.Diff(byHand, any, cmp.AllowUnexported(frame{}), entriesAlike); err != nil || diff != "" {
			t.Fatal(err, diff)
		}
		var known brokerv1.ReplicaFrame
		if err := proto.Unmarshal(b, &known); err != nil {
			t.Fatal(err)
		}
		again, err := proto.Marshal(&known)
		if f, ok, err2 := readHot(again); err != nil || !ok || err2 != nil || !cmp.Equal(f, any, cmp.AllowUnexported(frame{}), entriesAlike) {
			t.Fatalf("what protobuf writes is not read by hand: %x", again)
		}
	})
}

func drawItem(t *rapid.T) item {
	return item{frame: frame{
		slot:    shard.Slot(rapid.Uint32Range(0, shard.Slots-1).Draw(t, "slot")),
		message: rapid.OneOf(rapid.Custom(drawSimple), rapid.Custom(drawState), rapid.Custom(drawAppend)).Draw(t, "message"),
	}}
}

func drawAck(t *rapid.T) replica.Message {
	return &replica.Ack{
		Term: rapid.Uint64().Draw(t, "term"), Round: rapid.Uint64().Draw(t, "round"), End: rapid.Uint64().Draw(t, "end"),
		Pieces: rapid.IntRange(0, 1<<31-1).Draw(t, "pieces"),
	}
}

func drawSimple(t *rapid.T) replica.Message {
	number := func(name string) uint64 { return rapid.Uint64().Draw(t, name) }
	version := rapid.Int64().Draw(t, "version")
	term, round := number("term"), number("round")
	small := rapid.IntRange(0, 1<<31-1)
	switch rapid.IntRange(0, 7).Draw(t, "kind") {
	case 0:
		return &replica.Lead{Term: term, Version: version, Base: number("base"), Round: round}
	case 1:
		return &replica.Piece{
			Term: term, Round: round, Offset: number("offset"), Seq: small.Draw(t, "seq"),
			Data: rapid.SliceOf(rapid.Byte()).Draw(t, "data"), Last: rapid.Bool().Draw(t, "last"),
		}
	case 2:
		return drawAck(t)
	case 3:
		return &replica.Refuse{Term: term, Version: version, Round: round, Need: number("need")}
	case 4:
		return &replica.Leave{Term: term, Version: version}
	case 5:
		return &replica.Watch{Term: term, Round: round, Number: number("number")}
	case 6:
		return &replica.Fresh{
			Term: term, Round: round, Number: number("number"), Commit: number("commit"),
			Age: time.Duration(rapid.Int64Min(0).Draw(t, "age")),
		}
	}
	return &replica.Release{Term: term, Version: version, Round: round}
}

func drawState(t *rapid.T) replica.Message {
	m := &replica.State{
		Term: rapid.Uint64().Draw(t, "term"), Version: rapid.Int64().Draw(t, "version"), Round: rapid.Uint64().Draw(t, "round"),
	}
	var last replica.TermEnd
	for range rapid.IntRange(0, 4).Draw(t, "terms") {
		last.Term += rapid.Uint64Range(1, 1<<50).Draw(t, "term")
		last.Last += rapid.Uint64Range(1, 1<<50).Draw(t, "last")
		m.Terms = append(m.Terms, last)
	}
	m.End = last.Last
	return m
}

func drawAppend(t *rapid.T) replica.Message {
	m := &replica.Append{
		Term: rapid.Uint64().Draw(t, "term"), Round: rapid.Uint64().Draw(t, "round"), Join: rapid.Bool().Draw(t, "join"),
		Prev: rapid.Uint64Range(0, shard.MaxPosition-10).Draw(t, "prev"), Commit: rapid.Uint64().Draw(t, "commit"),
	}
	text, data := rapid.String(), rapid.SliceOf(rapid.Byte())
	for i := range rapid.IntRange(0, 5).Draw(t, "entries") {
		m.Entries = append(m.Entries, &history.Entry{
			Channel: text.Draw(t, "channel"), Offset: m.Prev + uint64(i) + 1, Prev: rapid.Uint64Range(0, m.Prev).Draw(t, "before"),
			Term: rapid.Uint64Range(0, m.Term).Draw(t, "entry term"), Time: rapid.Int64Min(0).Draw(t, "time"),
			Data: data.Draw(t, "data"), Ext: data.Draw(t, "ext"), Members: data.Draw(t, "members"),
			Session: text.Draw(t, "session"), ID: text.Draw(t, "id"), Key: text.Draw(t, "key"),
		})
	}
	return m
}

// FuzzDecode lets anything come in: what is taken for a message is one, and
// comes out the same when it is sent on.
func FuzzDecode(f *testing.F) {
	for _, m := range []replica.Message{
		&replica.Lead{Term: 1, Version: 2, Base: 3, Round: 4},
		&replica.State{Term: 2, End: 7, Terms: []replica.TermEnd{{Term: 1, Last: 5}, {Term: 2, Last: 7}}},
		&replica.Append{Term: 2, Prev: 6, Entries: []*history.Entry{{Channel: "/a", Offset: 7, Term: 2, Data: []byte("1")}}},
		&replica.Piece{Term: 2, Seq: 3, Data: []byte("x"), Last: true},
		&replica.Refuse{Term: 2, Need: 3},
	} {
		b, _, _ := cut(encode(nil, 0, []item{{frame: frame{slot: 9, message: m}}}))
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if hot, ok, err := readHot(b); ok {
			any, err2 := decodeAny(b)
			if (err == nil) != (err2 == nil) || err == nil && !cmp.Equal(hot, any, cmp.AllowUnexported(frame{}), entriesAlike) {
				t.Fatal(hot, err, any, err2)
			}
		}
		f, err := decode(b)
		if err != nil {
			return
		}
		frames, _, err := through(f.ping, item{frame: frame{slot: f.slot, message: f.message, pong: f.pong}})
		if err != nil {
			t.Fatal(err)
		}
		if f.ping != 0 {
			frames[0].slot = f.slot // which says nothing
		}
		if diff := cmp.Diff(f, frames[0], cmp.AllowUnexported(frame{}), cmpopts.EquateEmpty(), entriesAlike); diff != "" {
			t.Fatal(diff)
		}
	})
}
