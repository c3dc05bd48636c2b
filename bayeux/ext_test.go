package bayeux

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAck(t *testing.T) {
	tests := []struct {
		ext       string
		requested bool
		batch     int64
		ok        bool
	}{
		{``, false, 0, false},
		{`{}`, false, 0, false},
		{`{"ack":true}`, true, 0, false},
		{`{"ack":false}`, false, 0, false},
		{`{"ack":"true"}`, false, 0, false},
		{`{"ack":{"enabled":true}}`, false, 0, false},
		{`{"x":{"ack":5},"ack":0}`, false, 0, true},
		{`{"ack":17}`, false, 17, true},
		{`{"ack":-1}`, false, -1, false},
		{`{"ack":1.5}`, false, 0, false},
		{`{"ack":null}`, false, 0, false},
		{`{"ack":5`, false, 0, false},
		{`[`, false, 0, false},
	}
	for _, tt := range tests {
		if got := AckRequested(json.RawMessage(tt.ext)); got != tt.requested {
			t.Errorf("AckRequested(%s) = %v", tt.ext, got)
		}
		if batch, ok := AckBatch(json.RawMessage(tt.ext)); ok != tt.ok || ok && batch != tt.batch {
			t.Errorf("AckBatch(%s) = %d, %v", tt.ext, batch, ok)
		}
	}
}

func TestTimesync(t *testing.T) {
	const received = 1_000_000
	tests := []struct{ name, ext, want string }{
		{"none", `{"ack":1}`, "absent"},
		{"no object", `{"timesync":1}`, "absent"},
		{"no tc", `{"timesync":{"l":0}}`, "absent"},
		{"first", `{"timesync":{"tc":999000,"l":0,"o":0}}`, `{"tc":999000,"ts":1000000,"p":3,"a":-1000}`},
		{"good enough", `{"timesync":{"tc":999000,"l":10,"o":1000}}`, ``},
		{"off", `{"timesync":{"tc":999000,"l":10,"o":900.5}}`, `{"tc":999000,"ts":1000000,"p":3,"a":-89.5}`},
		{"old client", `{"timesync":{"tc":999000}}`, `{"tc":999000,"ts":1000000,"p":3}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sync, ok := ParseTimesync(json.RawMessage(tt.ext))
			got := "absent"
			if ok {
				got = string(sync.AppendReply(nil, time.UnixMilli(received), 3*time.Millisecond))
			}
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestParseReplay(t *testing.T) {
	tests := []struct {
		ext   string
		want  map[string]int64
		fault string
	}{
		{``, nil, ""},
		{`{"replay":true}`, nil, ""},
		{`{"replay":{}}`, map[string]int64{}, ""},
		{`{"replay":{"/a":-1,"/b":"-2","/c":3735928559012345,"/d":"7"}}`, map[string]int64{"/a": -1, "/b": -2, "/c": 3735928559012345, "/d": 7}, ""},
		{`{"replay":{"/a":-3}}`, nil, "400::replay_invalid"},
		{`{"replay":{"/a":1.5}}`, nil, "400::replay_invalid"},
		{`{"replay":{"/a":true}}`, nil, "400::replay_invalid"},
		{`{"replay":{"/a":1,"/b":2,"/c":3,"/d":4,"/e":5}}`, nil, "400::replay_invalid"},
	}
	for _, tt := range tests {
		got, err := ParseReplay(json.RawMessage(tt.ext), Limits{Subscriptions: 4})
		fault := ""
		if err != nil {
			fault = err.String()
		}
		if diff := cmp.Diff(tt.want, got); diff != "" || fault != tt.fault {
			t.Errorf("%s: %s %s", tt.ext, fault, diff)
		}
	}
	if !ReplayRequested(json.RawMessage(`{"replay":true}`)) || ReplayRequested(json.RawMessage(`{"replay":{}}`)) {
		t.Error("ReplayRequested")
	}
}

func TestIDText(t *testing.T) {
	for raw, want := range map[string]string{"": "", `"a\u0062"`: "ab", "12": "12"} {
		m := Message{ID: json.RawMessage(raw)}
		if got := m.IDText(); got != want {
			t.Errorf("%s: %q, want %q", raw, got, want)
		}
	}
}
