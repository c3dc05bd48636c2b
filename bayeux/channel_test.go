package bayeux

import (
	"errors"
	"strings"
	"testing"
)

func TestParseChannel(t *testing.T) {
	for _, name := range []string{
		"/a", "/a/b", "/foo.bar", "/a+b/c d", "/-_!~()$@ #*+.{}", "/a/b*", "/a/***", "/a/{x}/c", "/*", "/**", "/a/*", "/a/**",
		"/meta/x", "/service/**", "/.", "/" + strings.Repeat("x", 255), strings.Repeat("/a", 32),
	} {
		if err := ParseChannel(name); err != nil {
			t.Error(err)
		}
	}
	for name, reason := range map[string]string{
		"":                             "empty",
		"a":                            "does not begin with /",
		"/":                            "an empty segment",
		"//":                           "an empty segment",
		"/a/":                          "an empty segment",
		"/a//b":                        "an empty segment",
		"/*/a":                         "a wildcard before the last segment",
		"/a/**/b":                      "a wildcard before the last segment",
		"/a?b=c":                       "a character that is not allowed",
		"/ä":                           "a character that is not allowed",
		"/a\x00":                       "a character that is not allowed",
		"/a%2Fb":                       "a character that is not allowed",
		"/" + strings.Repeat("x", 256): "longer than 256 bytes",
		strings.Repeat("/a", 33):       "more than 32 segments",
	} {
		var fault *ChannelError
		if err := ParseChannel(name); !errors.As(err, &fault) || fault.Reason != reason {
			t.Errorf("%q: %v, want %s", name, err, reason)
		}
	}
}

func TestMatch(t *testing.T) {
	tests := []struct {
		channel string
		yes     string
		no      string
	}{
		{"/a/b/c", "/a/b/c /a/b/* /a/b/** /a/** /**", "/a/b /a/* /* /a/b/c/* /a/b/c/** /a/b*"},
		{"/a", "/a /* /**", "/a/** /a/* /b /meta/** /service/**"},
		{"/meta/x", "/meta/x /meta/* /meta/**", "/** /*"},
		{"/service/x", "/service/x /service/* /service/**", "/** /*"},
		{"/service/x/y", "/service/x/y /service/** /service/x/* /service/x/**", "/** /* /service/*"},
		{"/service", "/service /* /**", "/service/** /service/*"},
		{"/@a/b", "/@a/b /@a/* /@a/**", "/** /* /@a/b/**"},
		{"/@a", "/@a", "/** /*"},
		{"/a/@b", "/a/@b /a/* /**", "/@b"},
		{"/metal/x", "/metal/* /**", "/meta/**"},
		{"/a/bc", "/a/bc /a/*", "/a/b* /a/b /a/b**"},
		{"/a/b*", "/a/b* /a/*", "/a/b"},
	}
	for _, tt := range tests {
		for want, patterns := range map[bool]string{true: tt.yes, false: tt.no} {
			for p := range strings.FieldsSeq(patterns) {
				if got := Match(p, tt.channel); got != want {
					t.Errorf("Match(%q, %q) = %v", p, tt.channel, got)
				}
				var tree Tree[int]
				tree.Add(p, 1)
				hits := 0
				tree.Match(tt.channel, func(v int) { hits += v })
				if (hits == 1) != want || hits > 1 {
					t.Errorf("tree with %q matches %q %d times", p, tt.channel, hits)
				}
			}
		}
	}
}

func TestRosterOf(t *testing.T) {
	for name, want := range map[string]string{
		"/presence/a": "/a", "/presence/a/b/*": "/a/b/*", "/presence/presence/a": "/presence/a",
		"/presence": "", "/presences/a": "", "/a/presence/b": "",
	} {
		if channel, ok := RosterOf(name); ok != (want != "") || ok && channel != want {
			t.Errorf("RosterOf(%s) = %q, %v", name, channel, ok)
		}
	}
}

func TestKinds(t *testing.T) {
	tests := []struct {
		name                              string
		pattern, meta, service, broadcast bool
	}{
		{"/a", false, false, false, true},
		{"/a/*", true, false, false, true},
		{"/**", true, false, false, true},
		{"/a/b*", false, false, false, true},
		{"/a/***", false, false, false, true},
		{"/meta/connect", false, true, false, false},
		{"/service/a", false, false, true, false},
		{"/service/**", true, false, true, false},
		{"/services/a", false, false, false, true},
		{"/@a", false, false, false, false},
		{"/@a/**", true, false, false, false},
		{"/a/@b", false, false, false, true},
	}
	for _, tt := range tests {
		if IsPattern(tt.name) != tt.pattern || IsMeta(tt.name) != tt.meta || IsService(tt.name) != tt.service || IsBroadcast(tt.name) != tt.broadcast {
			t.Errorf("%s: pattern %v meta %v service %v broadcast %v", tt.name, IsPattern(tt.name), IsMeta(tt.name), IsService(tt.name), IsBroadcast(tt.name))
		}
		if ValidLiteral(tt.name) == tt.pattern {
			t.Errorf("ValidLiteral(%s) = %v", tt.name, !tt.pattern)
		}
	}
}
