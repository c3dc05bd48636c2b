package namespace_test

import (
	"strings"
	"testing"
	"time"

	"github.com/comet-push/comet/internal/namespace"
)

func set(t *testing.T, list ...namespace.Options) *namespace.Set {
	t.Helper()
	s, err := namespace.NewSet(list, namespace.Closed())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOf(t *testing.T) {
	s := set(t,
		namespace.Options{Pattern: "/chat/log", Messages: namespace.None},
		namespace.Options{Pattern: "/chat/*", Messages: 5, Age: time.Hour, Publish: namespace.Anyone},
		namespace.Options{Pattern: "/chat/**"},
		namespace.Options{Pattern: "/service/**", Messages: 7},
	)
	for _, tt := range []struct {
		channel  string
		messages int
		age      time.Duration
		publish  namespace.Who
	}{
		{"/chat/log", 0, 5 * time.Minute, namespace.Nobody},
		{"/chat/room", 5, time.Hour, namespace.Anyone},
		{"/chat/room/7", 100, 5 * time.Minute, namespace.Nobody},
		{"/chat", 100, 5 * time.Minute, namespace.Nobody},
		{"/other", 100, 5 * time.Minute, namespace.Nobody},
		{"/service/x", 7, 5 * time.Minute, namespace.Nobody},
	} {
		o := s.Of(tt.channel)
		if o.Messages != tt.messages || o.Age != tt.age || o.Publish != tt.publish || o.MaxMessageBytes != 512<<10 {
			t.Errorf("Of(%s) = %+v", tt.channel, o)
		}
	}
	if n := testing.AllocsPerRun(100, func() { s.Of("/chat/room/7") }); n != 0 {
		t.Errorf("Of allocates %v times", n)
	}
}

func TestSlow(t *testing.T) {
	s := set(t,
		namespace.Options{Pattern: "/prices/**", Slow: namespace.Conflate},
		namespace.Options{Pattern: "/logs/**", Slow: namespace.DropOldest},
		namespace.Options{Pattern: "/chat/**"},
	)
	for channel, want := range map[string]string{
		"/prices/a": namespace.Conflate, "/logs/a": namespace.DropOldest, "/chat/a": namespace.Recover, "/b": namespace.Recover,
	} {
		if got := s.Of(channel).Slow; got != want {
			t.Errorf("slow of %s is %q, want %q", channel, got, want)
		}
	}
}

func TestMaySubscribe(t *testing.T) {
	s := set(t,
		namespace.Options{Pattern: "/open/secret/*", Subscribe: namespace.Backends},
		namespace.Options{Pattern: "/open/**", Subscribe: namespace.Anyone},
		namespace.Options{Pattern: "/members/**", Subscribe: namespace.Sessions},
	)
	for _, tt := range []struct {
		name   string
		caller namespace.Who
		want   bool
	}{
		{"/open/a", namespace.Anyone, true},
		{"/open/secret/a", namespace.Anyone, false},
		{"/open/secret/a", namespace.Sessions, false},
		{"/open/secret/a", namespace.Backends, true},
		{"/open/secret/a/b", namespace.Anyone, true},
		{"/open/**", namespace.Anyone, false}, // would see the secrets
		{"/open/**", namespace.Backends, true},
		{"/open/*", namespace.Anyone, true},
		{"/open/secret/**", namespace.Anyone, false},
		{"/open/news/**", namespace.Anyone, true},
		{"/members/*", namespace.Sessions, true},
		{"/members/*", namespace.Anyone, false},
		{"/**", namespace.Backends, false}, // reaches channels that are closed
		{"/elsewhere", namespace.Backends, false},
		{"/service/**", namespace.Backends, false},
	} {
		if got := s.MaySubscribe(tt.name, tt.caller); got != tt.want {
			t.Errorf("MaySubscribe(%s, %s) = %v", tt.name, tt.caller, got)
		}
	}
	open, err := namespace.NewSet(nil, namespace.Open())
	if err != nil {
		t.Fatal(err)
	}
	if !open.MaySubscribe("/**", namespace.Anyone) || !open.MaySubscribe("/service/**", namespace.Anyone) ||
		!open.MayPublish("/service/x", namespace.Anyone) {
		t.Error("open is not open")
	}
}

// TestPrivate: no namespace opens what begins with /@.
func TestPrivate(t *testing.T) {
	open, err := namespace.NewSet([]namespace.Options{{Pattern: "/**", Subscribe: namespace.Anyone, Publish: namespace.Anyone}}, namespace.Open())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/@a", "/@presence/events/0", "/@presence/**", "/@presence/events/*"} {
		if open.MaySubscribe(name, namespace.Backends) || open.MayPublish(name, namespace.Backends) {
			t.Errorf("%s is open", name)
		}
	}
	events, cursor := open.Of(namespace.PresenceEvents+"3"), open.Of(namespace.PresenceWebhook+"3")
	if events.Age != 24*time.Hour || events.Bytes != 2<<20 || cursor.Messages != 4 || cursor.Age <= events.Age {
		t.Errorf("events %+v, cursors %+v", events, cursor)
	}
	if !open.MaySubscribe("/**", namespace.Anyone) || !open.MaySubscribe("/a/@b", namespace.Anyone) {
		t.Error("what is private closes other channels")
	}
}

func TestNobodyIsNoCaller(t *testing.T) {
	if namespace.Anyone.Allows(namespace.Nobody) || namespace.Nobody.Allows(namespace.Backends) ||
		namespace.Anyone.Allows("stranger") {
		t.Error("a permission covers who is no caller")
	}
}

func TestNewSetRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		list []namespace.Options
		want string
	}{
		{"no pattern", []namespace.Options{{}}, `namespaces[0].pattern: channel "": empty`},
		{"no slash", []namespace.Options{{Pattern: "chat"}}, "does not begin with /"},
		{"double star inside", []namespace.Options{{Pattern: "/**/a"}}, "a wildcard before the last segment"},
		{"meta", []namespace.Options{{Pattern: "/meta/**"}}, "no options"},
		{"rosters", []namespace.Options{{Pattern: "/presence/a/*"}}, "no options"},
		{
			"presence-grace",
			[]namespace.Options{{Pattern: "/a", PresenceGrace: 2 * time.Hour}},
			"presence-grace: 2h0m0s is not between 0 and 1h0m0s",
		},
		{"presence", []namespace.Options{{Pattern: "/a", Presence: "all"}}, `presence: "all" is not one of [members count off]`},
		{"private", []namespace.Options{{Pattern: "/@presence/**"}}, "reserved"},
		{
			"who",
			[]namespace.Options{{Pattern: "/a", Publish: "all"}},
			`namespaces[0] (/a): publish: "all" is not one of [nobody backends sessions anyone]`,
		},
		{
			"slow",
			[]namespace.Options{{Pattern: "/a", Slow: "demote"}},
			`namespaces[0] (/a): slow: "demote" is not one of [recover drop_oldest conflate]`,
		},
		{"messages", []namespace.Options{{Pattern: "/a", Messages: -2}}, "messages: -2 is not between 0 and 1000000"},
		{"shadowed", []namespace.Options{{Pattern: "/a/**"}, {Pattern: "/a/*"}}, "namespaces[1] (/a/*): never reached"},
		{"twice", []namespace.Options{{Pattern: "/a"}, {Pattern: "/a"}}, "never reached"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := namespace.NewSet(tt.list, namespace.Open())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err = %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestPresence(t *testing.T) {
	s, err := namespace.NewSet([]namespace.Options{
		{Pattern: "/a/hidden", Presence: namespace.Off, Subscribe: namespace.Anyone},
		{Pattern: "/a/*", Presence: namespace.Count, Subscribe: namespace.Sessions},
		{Pattern: "/b/**", Subscribe: namespace.Anyone},
	}, namespace.Options{Subscribe: namespace.Anyone, Publish: namespace.Anyone})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name     string
		presence string
		anyone   bool // may watch
		sessions bool
	}{
		{"/a/hidden", namespace.Off, false, false},
		{"/a/b", namespace.Count, false, true},
		{"/a/b/c", namespace.Members, true, true},
		{"/b/c", namespace.Members, true, true},
		{"/elsewhere", namespace.Members, true, true},
		{"/b/*", namespace.Members, false, false},
		{"/a/*", namespace.Off, false, false},
		{"/a/**", namespace.Off, false, false},
		{"/a/b/*", namespace.Members, false, false},
		{"/**", namespace.Off, false, false},
		{"/presence/b/c", namespace.Members, false, false},
		{"/service/x", namespace.Members, false, false},
		{"/meta/connect", namespace.Members, false, false},
	} {
		if got := s.Presence(tt.name); got != tt.presence {
			t.Errorf("presence of %s is %s, want %s", tt.name, got, tt.presence)
		}
		if anyone, sessions := s.MayWatch(tt.name, namespace.Anyone), s.MayWatch(tt.name, namespace.Sessions); anyone != tt.anyone || sessions != tt.sessions {
			t.Errorf("who may watch %s: %v, %v, want %v, %v", tt.name, anyone, sessions, tt.anyone, tt.sessions)
		}
	}
	graces, err := namespace.NewSet([]namespace.Options{{Pattern: "/a/*", PresenceGrace: 5 * time.Second}}, namespace.Open())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]time.Duration{"/a/b": 5 * time.Second, "/a/*": 0, "/b": 0} {
		if got := graces.PresenceGrace(name); got != want {
			t.Errorf("grace of %s is %v, want %v", name, got, want)
		}
	}
	for _, name := range []string{"/presence/b/c", "/presence/b/*", "/presence/**"} {
		if s.MaySubscribe(name, namespace.Backends) || s.MayPublish(name, namespace.Backends) {
			t.Errorf("%s is like other channels", name)
		}
	}
	if !s.MaySubscribe("/presence", namespace.Anyone) || !s.MayPublish("/presence", namespace.Anyone) {
		t.Error("/presence is no roster")
	}
}
