package bayeux

import (
	"encoding/json"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestAppendJSON(t *testing.T) {
	ok := true
	m := Message{
		Channel: Handshake, ID: json.RawMessage(`"1"`), ClientID: "c", Version: Version, MinimumVersion: Version,
		SupportedConnectionTypes: []string{"long-polling"}, Successful: &ok,
		Advice:  NewAdvice(ReconnectRetry, 0, 30*time.Second).WithMaxInterval(10 * time.Second),
		Ext:     json.RawMessage(`{"ack":true}`),
		Members: []byte(`"x":1`),
	}
	const want = `{"channel":"/meta/handshake","id":"1","successful":true,"clientId":"c","version":"1.0","minimumVersion":"1.0",` +
		`"supportedConnectionTypes":["long-polling"],"advice":{"reconnect":"retry","interval":0,"timeout":30000,"maxInterval":10000},` +
		`"ext":{"ack":true},"x":1}`
	if got := string(m.AppendJSON(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestReply(t *testing.T) {
	m := Message{
		Channel: Subscribe, ID: json.RawMessage("7"), ClientID: "secret",
		Subscription: &Subscription{Raw: json.RawMessage(`["/a" ]`)}, Data: json.RawMessage("1"), Ext: json.RawMessage("{}"),
	}
	r := []Message{m.Reply(nil), m.Reply(SubscribeDenied(DeniedByPolicy))}
	const want = `[{"channel":"/meta/subscribe","id":7,"successful":true,"subscription":["/a" ]},` +
		`{"channel":"/meta/subscribe","id":7,"successful":false,"error":"403:denied_by_security_policy:subscribe_denied","subscription":["/a" ]}]`
	if got := string(AppendBatch(nil, r)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestAppendEvent(t *testing.T) {
	tests := []struct{ data, ext, members, want string }{
		{`{"a":1}`, "", "", `{"channel":"/a","data":{"a":1}}`},
		{"", "", "", `{"channel":"/a","data":null}`},
		{"0", "{}", `"x":1,"y":2`, `{"channel":"/a","data":0,"ext":{},"x":1,"y":2}`},
	}
	raw := func(s string) []byte {
		if s == "" {
			return nil
		}
		return []byte(s)
	}
	for _, tt := range tests {
		if got := string(AppendEvent([]byte("["), "/a", raw(tt.data), raw(tt.ext), []byte(tt.members))); got != "["+tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}

func TestEventMembers(t *testing.T) {
	for in, want := range map[string]string{
		`{"channel":"/a"}`: ``,
		`{"channel":"/a","x":1,"advice":{},"error":"e"}`: `"x":1`,
		`{"channel":"/a","timestamp":"t\n"}`:             `"timestamp":"t\n"`,
		`{"x":1,"timestamp":"t","y":2}`:                  `"timestamp":"t","x":1,"y":2`,
	} {
		got, err := Decode([]byte(in), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if members := string(got[0].EventMembers()); members != want {
			t.Errorf("%s: %s, want %s", in, members, want)
		}
	}
}

func TestErrorTexts(t *testing.T) {
	for want, e := range map[string]*Error{
		"300:2.0:Version mismatch":                            VersionMismatch("2.0"),
		"301:a,b:Connection types not supported":              ConnectionTypesUnsupported("a", "b"),
		"400::channel_missing":                                ChannelMissing(),
		"400:/a:replay_lost":                                  ReplayLost("/a"),
		"400::replay_invalid":                                 ReplayInvalid(),
		"402::session_unknown":                                SessionUnknown(),
		"402:data:Missing required parameter":                 ParameterMissing("data"),
		"403::handshake_denied":                               HandshakeDenied(),
		"403::handshake_failed":                               HandshakeFailed(),
		"403:denied_by_security_policy:channel_create_denied": ChannelCreateDenied(DeniedByPolicy),
		"403:denied_by_not_granting:create_denied":            CreateDenied(DeniedByNotGranting),
		"403:denied_by_security_policy:subscribe_denied":      SubscribeDenied(DeniedByPolicy),
		"403::subscribe_failed":                               SubscribeFailed(),
		"403:denied_by_security_policy:publish_denied":        PublishDenied(DeniedByPolicy),
		"403::subscription_missing":                           SubscriptionMissing(),
		"403::subscription_invalid":                           SubscriptionInvalid(),
		"403::unsubscribe_failed":                             UnsubscribeFailed(),
		"404::message_deleted":                                MessageDeleted(),
		"405::channel_invalid":                                ChannelInvalid(),
		"405::message_id_invalid":                             MessageIDInvalid(),
		"413::message_too_large":                              MessageTooLarge(),
		"429:subscriptions:limit_exceeded":                    LimitExceeded("subscriptions"),
		"503::unavailable":                                    Unavailable(),
	} {
		if e.String() != want {
			t.Errorf("%s, want %s", e, want)
		}
	}
}

func TestAppendTextIsJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := string(rapid.SliceOf(rapid.Byte()).Draw(t, "text"))
		encoded := appendText(nil, text)
		var std string
		if err := json.Unmarshal(encoded, &std); err != nil {
			t.Fatal(err)
		}
		own, ok := unquote(encoded)
		if !ok || own != std || utf8.ValidString(text) && own != text {
			t.Fatalf("%q became %s and %q, by encoding/json %q", text, encoded, own, std)
		}
	})
}

func messages() *rapid.Generator[Message] {
	text := rapid.StringN(0, 20, 60)
	value := rapid.SampledFrom([]json.RawMessage{
		nil, json.RawMessage("null"), json.RawMessage("0"), json.RawMessage(`""`), json.RawMessage("false"), json.RawMessage(` `)[:0:0],
		json.RawMessage(`{"b" : [1,  2.50], "a":"\u00e4\/"}`), json.RawMessage("9007199254740993"),
	})
	ms := rapid.Ptr(rapid.Int64Range(0, 1<<53), true)
	return rapid.Custom(func(t *rapid.T) Message {
		m := Message{
			Channel:        channels(false).Draw(t, "channel"),
			ID:             rapid.SampledFrom([]json.RawMessage{nil, json.RawMessage(`"a-\u0031"`), json.RawMessage("-1.5")}).Draw(t, "id"),
			ClientID:       text.Draw(t, "clientId"),
			Version:        text.Draw(t, "version"),
			ConnectionType: text.Draw(t, "connectionType"),
			Successful:     rapid.Ptr(rapid.Bool(), true).Draw(t, "successful"),
			Error:          text.Draw(t, "error"),
			Timestamp:      text.Draw(t, "timestamp"),
			Members:        rapid.SampledFrom([][]byte{nil, []byte(`"x":1`), []byte(`"x" : {"a":[ ]},"":""`)}).Draw(t, "members"),
			Ext:            rapid.SampledFrom([]json.RawMessage{nil, json.RawMessage(`{ }`)}).Draw(t, "ext"),
		}
		if data := value.Draw(t, "data"); len(data) > 0 {
			m.Data = data
		}
		if rapid.Bool().Draw(t, "types") {
			m.SupportedConnectionTypes = rapid.SliceOf(text).Draw(t, "supportedConnectionTypes")
		}
		if rapid.Bool().Draw(t, "advised") {
			m.Advice = &Advice{
				Reconnect: rapid.SampledFrom([]string{"", "retry", "handshake", "none"}).Draw(t, "reconnect"),
				Interval:  ms.Draw(t, "interval"), Timeout: ms.Draw(t, "timeout"), MaxInterval: ms.Draw(t, "maxInterval"),
				MultipleClients: rapid.Bool().Draw(t, "multiple-clients"),
			}
		}
		if names := rapid.SliceOfN(channels(true), 1, 3).Draw(t, "subscription"); rapid.Bool().Draw(t, "subscribing") {
			raw, err := json.Marshal(names)
			if err != nil {
				t.Fatal(err)
			}
			m.Subscription = &Subscription{names, raw}
		}
		return m
	})
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(messages(), 1, 4).Draw(t, "messages")
		text := AppendBatch(nil, want)
		got, err := Decode(text, Limits{})
		if err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%s\n%s", text, diff)
		}
	})
}
