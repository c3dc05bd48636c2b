package plain_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
	"github.com/comet-push/comet/services/edge/internal/plain"
)

func TestObjects(t *testing.T) {
	at := shard.Position{Offset: 9007199254740991}
	message := event.New("/a", at, []byte(`{"b": 1}`), []byte(`{"c":2}`), nil, time.Time{})
	tests := []struct {
		name string
		got  []byte
		want string
	}{
		{"open", plain.AppendOpen(nil, "9007199254740991", 25*time.Second, 0), `{"type":"open","cursor":"9007199254740991","heartbeat":25}`},
		{"padding", plain.AppendOpen(nil, "0", 1500*time.Millisecond, 3), `{"type":"open","cursor":"0","heartbeat":1.5,"padding":"..."}`},
		{"heartbeat", plain.AppendHeartbeat(nil, "~A"), `{"type":"heartbeat","cursor":"~A"}`},
		{"cursor", plain.AppendCursor(nil, "~A"), `{"type":"cursor","cursor":"~A"}`},
		{"resync", plain.AppendResync(nil, "~A", []string{"/a", "/b/**"}), `{"type":"resync","cursor":"~A","channels":["/a","/b/**"]}`},
		{"end", plain.AppendEnd(nil, plain.Slow, "~A", 1999*time.Millisecond, ""), `{"type":"end","reason":"slow","cursor":"~A","retry":1999}`},
		{"refused", plain.AppendEnd(nil, plain.Denied, "", 0, "no"), `{"type":"end","reason":"denied","detail":"no"}`},
		{"empty batch", (&plain.Batch{Cursor: "7"}).Append(nil), `{"messages":[],"cursor":"7"}`},
		{
			"batch", (&plain.Batch{
				Events: []*event.Event{message, message}, Cursor: "~A", Resync: []string{"/b"}, End: plain.Draining, Retry: time.Second,
			}).Append([]byte("in front of ")),
			`in front of {"messages":[` + strings.Repeat(`,{"channel":"/a","position":9007199254740991,"data":{"b": 1},"ext":{"c":2}}`, 2)[1:] +
				`],"cursor":"~A","resync":["/b"],"end":"draining","retry":1000}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, string(tt.got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A WebSocket is closed with a status that says what to do.
func TestFinalOfSockets(t *testing.T) {
	for reason, want := range map[plain.Reason]string{
		plain.Draining: "\x03\xf4draining", plain.Slow: "\x03\xf5slow", plain.Limit: "\x03\xf5limit",
		plain.Expired: "\x03\xf0expired", plain.Denied: "\x03\xf0denied", plain.Failed: "\x03\xf3error",
	} {
		_, last := plain.Final(event.Text, reason, "7", time.Second)
		if got := string(last.Payload()); got != want {
			t.Errorf("%s: got %q, want %q", reason, got, want)
		}
	}
}

// A batch is JSON whatever was published.
func FuzzBatch(f *testing.F) {
	f.Add("/a", []byte(`{"a":1}`), "~AQ")
	f.Add("/a b", []byte("[\n\"</script>\u2028\"]"), "9007199254740991")
	f.Fuzz(func(t *testing.T, channel string, data []byte, cursor string) {
		if !json.Valid(data) {
			return
		}
		e := event.New(channel, shard.Position{Offset: 1}, data, nil, nil, time.Time{})
		body := (&plain.Batch{Events: []*event.Event{e, e}, Cursor: cursor, Resync: []string{channel}}).Append(nil)
		var got struct {
			Messages []struct{ Data json.RawMessage }
			Cursor   string
			Resync   []string
		}
		if err := json.Unmarshal(body, &got); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		if len(got.Messages) != 2 || string(got.Messages[1].Data) != strings.Trim(string(data), " \t\r\n") {
			t.Errorf("%q became %s", data, body)
		}
		if utf8.ValidString(cursor) && utf8.ValidString(channel) && (got.Cursor != cursor || got.Resync[0] != channel) {
			t.Errorf("cursor %q became %q, channel %q %q", cursor, got.Cursor, channel, got.Resync)
		}
	})
}
