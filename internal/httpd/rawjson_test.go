package httpd

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/internal/rpc"
)

func TestUnmarshal(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		data     string
		ext      string
	}{
		{"number", `{"channel":"/a","data":9007199254740993}`, `9007199254740993`, ""},
		{"key order and spaces", `{ "data" : {"z": 1, "a" : [ 2 ]} , "channel":"/a" }`, `{"z": 1, "a" : [ 2 ]}`, ""},
		{"escapes", `{"channel":"/a","data":"\u00e9\/<é"}`, `"\u00e9\/<é"`, ""},
		{"null is a value", `{"channel":"/a","data":null}`, `null`, ""},
		{"duplicate keys inside", `{"channel":"/a","data":{"a":1,"a":2}}`, `{"a":1,"a":2}`, ""},
		{"ext", `{"channel":"/a","data":1e400,"ext":{"k":[]}}`, `1e400`, `{"k":[]}`},
		{"no data", `{"channel":"/a"}`, ``, ``},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var m pubsubv1.PublishRequest
			if err := unmarshal([]byte(tt.in), &m); err != nil {
				t.Fatal(err)
			}
			if m.GetChannel() != "/a" || string(m.GetData()) != tt.data || string(m.GetExt()) != tt.ext {
				t.Errorf("got %q %q %q", m.GetChannel(), m.GetData(), m.GetExt())
			}
		})
	}
}

func TestUnmarshalNested(t *testing.T) {
	var m pubsubv1.HistoryResponse
	in := `{"messages":[{"channel":"/a","data":{"x":1}},{"data":[2, 3],"position":"7","time":"2026-01-02T03:04:05Z"}],"cursor":"7"}`
	if err := unmarshal([]byte(in), &m); err != nil {
		t.Fatal(err)
	}
	if got := m.GetMessages(); string(got[0].GetData()) != `{"x":1}` || string(got[1].GetData()) != `[2, 3]` || got[1].GetPosition() != 7 {
		t.Errorf("got %v", got)
	}
	out, err := marshal(&m)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"messages":[{"channel":"/a","position":"0","data":{"x":1}},` +
		`{"channel":"","position":"7","data":[2, 3],"time":"2026-01-02T03:04:05Z"}],"cursor":"7"}`
	if string(out) != want {
		t.Errorf("got  %s\nwant %s", out, want)
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	const unknown, badJSON = channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID, channelv1.ErrorReason_ERROR_REASON_JSON_INVALID
	for _, tt := range []struct {
		name, in, want string
		reason         channelv1.ErrorReason
	}{
		{"unknown field", `{"chanel":"/a"}`, `unknown field "chanel"; allowed: channel, data, ext, idempotencyKey`, unknown},
		{"data twice", `{"data":1,"channel":"/a","data":2}`, `field "data" is given twice`, unknown},
		{"two spellings", `{"idempotencyKey":"a","idempotency_key":"b"}`, `field "idempotencyKey" is given twice`, unknown},
		{"wrong type", `{"channel":5}`, `invalid value for string field channel: 5`, unknown},
		{"not JSON", `{"channel":}`, `JSON`, badJSON},
		{"empty", ``, `expected an object`, badJSON},
		{"array", `[]`, `expected an object`, badJSON},
		{"more", `{} {}`, `not a JSON object`, badJSON},
		{"cut", `{"channel":"/a","data":{"a":`, `not a JSON object`, badJSON},
		{"not UTF-8", "{\"data\":\"\xff\"}", `not UTF-8`, badJSON},
		{"too deep", `{"data":` + strings.Repeat("[", 65) + strings.Repeat("]", 65) + `}`, `not a JSON object`, badJSON},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := &body{ReadCloser: nopCloser{strings.NewReader(tt.in)}}
			err := marshaler{}.NewDecoder(b).Decode(&pubsubv1.PublishRequest{})
			if err == nil || !strings.Contains(err.Error(), tt.want) || rpc.Reason(err) != tt.reason || b.fault == nil {
				t.Errorf("err = %v, reason %v, want %q, %v", err, rpc.Reason(err), tt.want, tt.reason)
			}
		})
	}
	if err := unmarshal([]byte(`{"messages":[{"x":1}]}`), &pubsubv1.HistoryResponse{}); err == nil ||
		!strings.Contains(err.Error(), `unknown field "messages[0].x"`) {
		t.Errorf("err = %v", err)
	}
	deepest := `{"data":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`
	if err := unmarshal([]byte(deepest), &pubsubv1.PublishRequest{}); err != nil {
		t.Errorf("64 levels: %v", err)
	}
}

type nopCloser struct{ *strings.Reader }

func (nopCloser) Close() error { return nil }

func TestMarshalStreamLine(t *testing.T) {
	m := &channelv1.Message{Channel: "/a", Data: []byte("{\n\t\"a\": \"\\n\"\r\n}")}
	got, err := marshaler{}.Marshal(map[string]any{"result": proto.Message(m)})
	if err != nil {
		t.Fatal(err)
	}
	want := "{\"result\":{\"channel\":\"/a\",\"position\":\"0\",\"data\":{ \t\"a\": \"\\n\"  }}}"
	if string(got) != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestMarshalRefusesWhatIsNotJSON(t *testing.T) {
	if out, err := marshal(&channelv1.Message{Data: []byte(`{"a"`)}); err == nil {
		t.Errorf("got %s", out)
	}
}

// FuzzTranscode proves that what is accepted is what protojson would accept
// with base64 in place of raw values, and that it comes back byte for byte.
func FuzzTranscode(f *testing.F) {
	for _, s := range []string{
		`{"channel":"/a","data":{"a":[1,2.50,"x\u2028"]},"ext":{},"idempotencyKey":"k"}`,
		`{"idempotency_key":"k","data":null}`, `{"data":1,"data":2}`, `{"channel":{"a":1}}`, `{"channel":null,"ext":null}`,
		"{\"data\":\n 1 }", `{"\u0064ata":1}`, `[]`, `{`, "{\"data\":\"\xff\"}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var m pubsubv1.PublishRequest
		if unmarshal(in, &m) != nil {
			return
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(in, &fields); err != nil {
			t.Fatalf("accepted %q: %v", in, err)
		}
		for _, name := range []string{"data", "ext"} {
			if raw, ok := fields[name]; ok {
				fields[name] = json.RawMessage(`"` + base64.StdEncoding.EncodeToString(raw) + `"`)
			}
		}
		plain, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		var want pubsubv1.PublishRequest
		if err := protojson.Unmarshal(plain, &want); err != nil {
			t.Fatalf("accepted %q, protojson does not: %v", in, err)
		}
		if !proto.Equal(&m, &want) {
			t.Fatalf("%q: got %v, want %v", in, &m, &want)
		}
		out, err := marshal(&m)
		if err != nil {
			t.Fatalf("%q: %v", in, err)
		}
		var again pubsubv1.PublishRequest
		if err := unmarshal(out, &again); err != nil || !proto.Equal(&m, &again) {
			t.Fatalf("%q: back as %q (%v): %v", in, out, err, &again)
		}
	})
}
