package bayeux

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDecode(t *testing.T) {
	tests := []struct {
		name string
		in   string
		want []Message
	}{
		{"empty array", ` [ ] `, nil},
		{
			"handshake of the CometD client",
			`[{"id":"1","version":"1.0","minimumVersion":"1.0","channel":"/meta/handshake","supportedConnectionTypes":["websocket","long-polling"],"advice":{"timeout":60000,"interval":0},"ext":{"ack":true}}]`,
			[]Message{{
				Channel: Handshake, ID: json.RawMessage(`"1"`), Version: "1.0", MinimumVersion: "1.0",
				SupportedConnectionTypes: []string{"websocket", "long-polling"},
				Advice:                   &Advice{Timeout: new(int64(60000)), Interval: new(int64(0))},
				Ext:                      json.RawMessage(`{"ack":true}`),
			}},
		},
		{
			"bare message",
			"\n{\"channel\":\"/meta/connect\",\"clientId\":\"c\",\"connectionType\":\"long-polling\"}\n",
			[]Message{{Channel: Connect, ClientID: "c", ConnectionType: "long-polling"}},
		},
		{
			"payload byte for byte",
			`[{"channel":"/a","data": { "b" : 9007199254740993, "a":1.0e+2 } ,"ext":{"z":1, "a":2}}]`,
			[]Message{{
				Channel: "/a", Data: json.RawMessage(`{ "b" : 9007199254740993, "a":1.0e+2 }`),
				Ext: json.RawMessage(`{"z":1, "a":2}`),
			}},
		},
		{
			"unknown members in order",
			`{"x-b": 1 ,"channel":"/a","x-a":[ ],"data":0,"\u0078":"\u0078"}`,
			[]Message{{Channel: "/a", Data: json.RawMessage("0"), Members: []byte(`"x-b": 1,"x-a":[ ],"\u0078":"\u0078"`)}},
		},
		{
			"a known name in disguise is known",
			`{"channel":"/a","client\u0049d":"c","\u0069d":5}`,
			[]Message{{Channel: "/a", ClientID: "c", ID: json.RawMessage("5")}},
		},
		{
			"null is absent, but not as data",
			`{"channel":"/a","id":null,"ext":null,"advice":null,"successful":null,"timestamp":null,"data":null}`,
			[]Message{{Channel: "/a", Data: json.RawMessage("null")}},
		},
		{
			"subscription text",
			`{"channel":"/meta/subscribe","subscription":"\/foo/*"}`,
			[]Message{{Channel: Subscribe, Subscription: &Subscription{[]string{"/foo/*"}, json.RawMessage(`"\/foo/*"`)}}},
		},
		{
			"subscription array",
			`{"channel":"/meta/unsubscribe","subscription":["/a", "/b/**"]}`,
			[]Message{{Channel: Unsubscribe, Subscription: &Subscription{[]string{"/a", "/b/**"}, json.RawMessage(`["/a", "/b/**"]`)}}},
		},
		{
			"empty subscription array",
			`{"channel":"/meta/subscribe","subscription":[]}`,
			[]Message{{Channel: Subscribe, Subscription: &Subscription{[]string{}, json.RawMessage(`[]`)}}},
		},
		{
			"reply",
			`{"channel":"/meta/connect","successful":false,"error":"402::session_unknown","timestamp":"t","advice":{"reconnect":"handshake","interval":12.9,"timeout":1e99,"maxInterval":-1,"multiple-clients":true,"hosts":["a"]}}`,
			[]Message{{
				Channel: Connect, Successful: new(false), Error: "402::session_unknown", Timestamp: "t",
				Advice: &Advice{Reconnect: "handshake", Interval: new(int64(12)), Timeout: new(int64(1 << 53)), MultipleClients: true},
			}},
		},
		{
			"same clientId twice",
			`[{"channel":"/a","clientId":"c"},{"channel":"/b","clientId":"c"}]`,
			[]Message{{Channel: "/a", ClientID: "c"}, {Channel: "/b", ClientID: "c"}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Decode([]byte(tt.in), Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDecodeProblem(t *testing.T) {
	long := strings.Repeat("x", 300)
	tests := []struct {
		name, in, problem, echo string
	}{
		{"no channel", `{"id":"1"}`, "400::channel_missing", `{"id":"1"}`},
		{"null channel", `{"channel":null}`, "400::channel_missing", `{}`},
		{"channel a number", `{"channel":1,"id":2}`, "405::channel_invalid", `{"id":2}`},
		{"channel empty", `{"channel":""}`, "405::channel_invalid", `{}`},
		{"channel bad", `{"channel":"a"}`, "405::channel_invalid", `{"channel":"a"}`},
		{"channel a pattern", `{"channel":"/a/**"}`, "405::channel_invalid", `{"channel":"/a/**"}`},
		{"channel with a trailing slash", `{"channel":"/a/"}`, "405::channel_invalid", `{"channel":"/a/"}`},
		{"channel twice", `{"channel":"/a","channel":"/b"}`, "400:channel:member_repeated", `{"channel":"/a"}`},
		{"id an object", `{"channel":"/a","id":{}}`, "405::message_id_invalid", `{"channel":"/a"}`},
		{"id too long", `{"channel":"/a","id":"` + long + `"}`, "405::message_id_invalid", `{"channel":"/a"}`},
		{"ext an array", `{"channel":"/a","ext":[]}`, "400:ext:member_invalid", `{"channel":"/a"}`},
		{"advice a text", `{"channel":"/a","advice":""}`, "400:advice:member_invalid", `{"channel":"/a"}`},
		{"successful a number", `{"channel":"/a","successful":1}`, "400:successful:member_invalid", `{"channel":"/a"}`},
		{"version a number", `{"channel":"/a","version":1}`, "400:version:member_invalid", `{"channel":"/a"}`},
		{"types a text", `{"channel":"/a","supportedConnectionTypes":"x"}`, "400:supportedConnectionTypes:member_invalid", `{"channel":"/a"}`},
		{"types of numbers", `{"channel":"/a","supportedConnectionTypes":[1]}`, "400:supportedConnectionTypes:member_invalid", `{"channel":"/a"}`},
		{
			"subscription a number", `{"channel":"/meta/subscribe","subscription":5}`,
			"403::subscription_invalid", `{"channel":"/meta/subscribe","subscription":5}`,
		},
		{
			"subscription bad", `{"channel":"/meta/subscribe","subscription":["/a","/b/*/c"]}`,
			"403::subscription_invalid", `{"channel":"/meta/subscribe","subscription":["/a","/b/*/c"]}`,
		},
		{
			"the first problem counts", `{"channel":"/a/","subscription":5}`,
			"405::channel_invalid", `{"channel":"/a/","subscription":5}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Decode([]byte(`[{"channel":"/ok"},`+tt.in+`,{"channel":"/ok"}]`), Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 3 || got[0].Problem != nil || got[2].Problem != nil {
				t.Fatalf("neighbours spoiled: %+v", got)
			}
			m := got[1]
			if m.Problem == nil || m.Problem.String() != tt.problem {
				t.Errorf("problem %v, want %s", m.Problem, tt.problem)
			}
			if echo := string(m.AppendJSON(nil)); echo != tt.echo {
				t.Errorf("echo %s, want %s", echo, tt.echo)
			}
		})
	}
}

func TestDecodeClientIDImpossible(t *testing.T) {
	for _, id := range []string{"1", "{}", `"` + strings.Repeat("x", 300) + `"`} {
		got, err := Decode([]byte(`{"channel":"/a","clientId":`+id+`}`), Limits{})
		if err != nil || got[0].Problem != nil || got[0].ClientID != "" {
			t.Errorf("clientId %s: %+v, %v", id, got, err)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	tests := []struct {
		name   string
		in     string
		reason string
		offset int
	}{
		{"nothing", "", ReasonJSONInvalid, 0},
		{"white space", " \n", ReasonJSONInvalid, 2},
		{"byte order mark", "\ufeff[]", ReasonJSONInvalid, 0},
		{"a number", "1", ReasonJSONInvalid, 0},
		{"array of numbers", "[1]", ReasonJSONInvalid, 1},
		{"array of arrays", "[[]]", ReasonJSONInvalid, 1},
		{"cut", `[{"channel":"/a"`, ReasonJSONInvalid, 16},
		{"cut in a text", `[{"channel":"/a`, ReasonJSONInvalid, 15},
		{"text after it", `[]x`, ReasonJSONInvalid, 2},
		{"NUL after it", "[]\x00", ReasonJSONInvalid, 2},
		{"two documents", `{}{}`, ReasonJSONInvalid, 2},
		{"comma at the end", `[{},]`, ReasonJSONInvalid, 4},
		{"comma at the end of a message", `[{"a":1,}]`, ReasonJSONInvalid, 8},
		{"no comma", `[{}{}]`, ReasonJSONInvalid, 3},
		{"no colon", `[{"a" 1}]`, ReasonJSONInvalid, 6},
		{"name without quotes", `[{a:1}]`, ReasonJSONInvalid, 2},
		{"leading zero", `[{"data":01}]`, ReasonJSONInvalid, 10},
		{"plus", `[{"data":+1}]`, ReasonJSONInvalid, 9},
		{"no digit after the point", `[{"data":1.}]`, ReasonJSONInvalid, 11},
		{"NaN", `[{"data":NaN}]`, ReasonJSONInvalid, 9},
		{"almost true", `[{"data":tru}]`, ReasonJSONInvalid, 9},
		{"line break in a text", "[{\"data\":\"a\nb\"}]", ReasonJSONInvalid, 11},
		{"unknown escape", `[{"data":"\x"}]`, ReasonJSONInvalid, 11},
		{"short escape", `[{"data":"\u12g4"}]`, ReasonJSONInvalid, 14},
		{"not UTF-8", "[{\"data\":\"\xff\"}]", ReasonJSONInvalid, 10},
		{"surrogate in UTF-8", "[{\"data\":\"\xed\xa0\x80\"}]", ReasonJSONInvalid, 10},
		{"too deep", `[{"data":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}]`, ReasonJSONInvalid, 72},
		{"too many", "[" + strings.Repeat("{},", 1000) + "{}]", ReasonBatchTooLarge, 3001},
		{"too large", strings.Repeat(" ", 1<<20) + "[]", ReasonMessageTooLarge, 1 << 20},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Decode([]byte(tt.in), Limits{})
			var refused *DecodeError
			if !errors.As(err, &refused) || got != nil {
				t.Fatalf("%d messages, error %v", len(got), err)
			}
			if refused.Reason != tt.reason || refused.Offset != tt.offset {
				t.Errorf("%v, want %s at %d", err, tt.reason, tt.offset)
			}
		})
	}
}

func TestDecodeAtTheLimits(t *testing.T) {
	for name, in := range map[string]string{
		"deep": `[{"data":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `}]`,
		"many": "[" + strings.Repeat("{},", 999) + "{}]",
		"long": strings.Repeat(" ", 1<<20-2) + "[]",
	} {
		if _, err := Decode([]byte(in), Limits{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What one raw field appends to must not run into the bytes behind it.
func TestDecodeAliases(t *testing.T) {
	body := []byte(`[{"channel":"/a","data":1,"ext":{},"x":1}]`)
	before := string(body)
	got, err := Decode(body, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	m := got[0]
	for _, raw := range [][]byte{m.Data, m.Ext, m.Members} {
		_ = append(raw, "!!!!"...)
	}
	if string(body) != before {
		t.Errorf("body became %s", body)
	}
	body[24] = '2'
	if string(m.Data) != "2" {
		t.Error("data does not alias the body")
	}
}

func TestDecodePost(t *testing.T) {
	const one, two = `%5B%7B%22channel%22%3A%22/a%22%7D%5D`, `{"channel":"/b"}`
	tests := []struct {
		name, body string
		channels   int
		reason     string
	}{
		{"json", ` [{"channel":"/a"}]`, 1, ""},
		{"form", "message=" + one, 1, ""},
		{"form with more", "x=1&message=" + one + "&message=" + two + "&y", 2, ""},
		{"form without message", "x=1", 0, ReasonJSONInvalid},
		{"form with bad escapes", "message=%zz", 0, ReasonJSONInvalid},
		{"form with bad json", "message=%5B", 0, ReasonJSONInvalid},
		{"form with NUL bytes", "message=%00", 0, ReasonJSONInvalid},
		{"nothing", "", 0, ReasonJSONInvalid},
		{"large form", "message=" + strings.Repeat("+", 1<<20), 0, ReasonMessageTooLarge},
		{"many in a form", "message=[" + strings.Repeat("{},", 600) + "{}]&message=[" + strings.Repeat("{},", 600) + "{}]", 0, ReasonBatchTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := DecodePost([]byte(tt.body), Limits{})
			reason := ""
			if refused := new(DecodeError); errors.As(err, &refused) {
				reason = refused.Reason
			}
			if len(got) != tt.channels || reason != tt.reason {
				t.Errorf("%d messages, %v", len(got), err)
			}
		})
	}
}
