package transport

import (
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

// through sends items over the wire.
func through(ping uint64, items []item) ([]*brokerv1.ReplicaFrame, int, error) {
	wire, err := proto.Marshal(&brokerv1.ReplicateRequest{Frames: encode(ping, items)})
	if err != nil {
		return nil, 0, err
	}
	var batch brokerv1.ReplicateResponse // both have the same form
	err = proto.Unmarshal(wire, &batch)
	return batch.GetFrames(), len(wire), err
}

func TestMessagesSurviveTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.Custom(drawItem), 1, 5).Draw(t, "items")
		frames, wire, err := through(0, want)
		if err != nil || len(frames) != len(want) {
			t.Fatal(len(frames), err)
		}
		bytes := 0
		for i, f := range frames {
			slot, m, err := decode(f)
			if err != nil {
				t.Fatal(err)
			}
			if slot != want[i].slot {
				t.Errorf("slot %d, want %d", slot, want[i].slot)
			}
			if diff := cmp.Diff(want[i].message, m, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
			bytes += size(m)
		}
		if wire > bytes {
			t.Errorf("%d bytes on the wire, expected at most %d", wire, bytes)
		}
	})
}

func TestPingsAndPongsSurviveTheWire(t *testing.T) {
	frames, _, err := through(1<<63, []item{{pong: 1<<64 - 1}, {pong: 0}})
	if err != nil || len(frames) != 3 || frames[0].GetPing() != 1<<63 || frames[1].GetPong() != 1<<64-1 {
		t.Fatal(frames, err)
	}
	for _, f := range frames {
		if _, _, err := decode(f); err == nil {
			t.Errorf("%v is a message", f)
		}
	}
}

func drawItem(t *rapid.T) item {
	return item{
		slot:    shard.Slot(rapid.Uint32Range(0, shard.Slots-1).Draw(t, "slot")),
		message: rapid.OneOf(rapid.Custom(drawSimple), rapid.Custom(drawState), rapid.Custom(drawAppend)).Draw(t, "message"),
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
		return &replica.Ack{Term: term, Round: round, End: number("end"), Pieces: small.Draw(t, "pieces")}
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
		wire, err := proto.Marshal(encode(0, []item{{slot: 9, message: m}})[0])
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		var frame brokerv1.ReplicaFrame
		if proto.Unmarshal(wire, &frame) != nil {
			return
		}
		slot, m, err := decode(&frame)
		if err != nil {
			return
		}
		frames, _, err := through(0, []item{{slot: slot, message: m}})
		if err != nil {
			t.Fatal(err)
		}
		slot2, m2, err := decode(frames[0])
		if diff := cmp.Diff(m, m2, cmpopts.EquateEmpty()); err != nil || slot2 != slot || diff != "" {
			t.Fatal(slot, slot2, err, diff)
		}
	})
}
