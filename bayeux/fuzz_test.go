package bayeux

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// Whatever Decode accepts is JSON, and CheckValue agrees with encoding/json.
func FuzzDecode(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		valid := json.Valid(body) && utf8.Valid(body)
		if err := CheckValue(body, 10_000); (err == nil) != valid {
			t.Errorf("CheckValue: %v, encoding/json says %v", err, valid)
		}
		got, err := DecodePost(body, Limits{})
		if err != nil {
			if got != nil {
				t.Error("messages and an error")
			}
			return
		}
		for _, m := range got {
			if m.Problem == nil && !ValidLiteral(m.Channel) {
				t.Errorf("channel %q passed", m.Channel)
			}
			AckBatch(m.Ext)
			ParseTimesync(m.Ext)
			_, _ = ParseReplay(m.Ext, Limits{})
			r := m.Reply(m.Problem)
			for _, text := range [][]byte{m.AppendJSON(nil), r.AppendJSON(nil), AppendEvent(nil, m.Channel, m.Data, m.Ext, m.EventMembers())} {
				if !json.Valid(text) {
					t.Errorf("encoded %s", text)
				}
			}
		}
	})
}

// What was decoded is encoded and decoded to the same.
func FuzzRoundTrip(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		want, err := Decode(body, Limits{})
		if err != nil {
			return
		}
		for i := range want {
			if want[i].Problem != nil {
				return
			}
		}
		text := AppendBatch(nil, want)
		got, err := Decode(text, Limits{Bytes: 8 << 20})
		if err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%s\n%s", text, diff)
		}
	})
}

var grammar = regexp.MustCompile(`\A(/[-a-zA-Z0-9_!~()$@ #*+.{}]+)+\z`)

// The hand-written check agrees with the grammar as a regular expression.
func FuzzChannel(f *testing.F) {
	f.Fuzz(func(t *testing.T, name string) {
		want := grammar.MatchString(name) && len(name) <= 256 && strings.Count(name, "/") <= 32 &&
			!strings.Contains(name, "/*/") && !strings.Contains(name, "/**/")
		if err := ParseChannel(name); (err == nil) != want || ValidChannel(name) != want {
			t.Errorf("%q: %v, the grammar says %v", name, err, want)
		}
	})
}

// keys are the valid channels and patterns among the lines of a text; Tree
// agrees with Match on them.
func FuzzTreeMatch(f *testing.F) {
	f.Fuzz(func(t *testing.T, keys, channel string) {
		var tree Tree[string]
		model := map[string]bool{}
		for key := range strings.SplitSeq(keys, "\n") {
			if ValidChannel(key) {
				tree.Add(key, key)
				model[key] = true
			}
		}
		if !ValidLiteral(channel) {
			tree.Match(channel, func(string) {})
			return
		}
		want, got := map[string]int{}, map[string]int{}
		for key := range model {
			if Match(key, channel) {
				want[key]++
			}
		}
		tree.Match(channel, func(key string) { got[key]++ })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}
