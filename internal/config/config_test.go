package config_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/comet-push/comet/internal/config"
	"github.com/comet-push/comet/internal/namespace"
)

// load is what a command does with its arguments.
func load(t *testing.T, file string, env, args []string) (config.Config, *pflag.FlagSet, error) {
	t.Helper()
	c := config.Serve()
	fs := pflag.NewFlagSet("comet", pflag.ContinueOnError)
	c.Bind(fs)
	if file != "" {
		path := filepath.Join(t.TempDir(), "comet.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config="+path)
	}
	if err := fs.Parse(args); err != nil {
		return c, fs, config.UnknownFlag(fs, err)
	}
	return c, fs, c.Load(fs, env)
}

func TestDefaultsWork(t *testing.T) {
	for _, c := range []config.Config{config.Dev(), config.Serve()} {
		if err := c.Validate(); err != nil {
			t.Error(err)
		}
	}
	dev := config.Dev()
	for _, addr := range []string{dev.Edge.Listen, dev.GRPC.Listen, dev.Internal.Listen} {
		if !strings.HasPrefix(addr, "127.0.0.1:") {
			t.Errorf("dev listens on %s", addr)
		}
	}
}

func TestFlagOverVariableOverFileOverDefault(t *testing.T) {
	file := `
# a comment
drain-timeout: 1s
zone: file
edge:
  poll-timeout: 2s
  max-interval: 3s
  allowed-origins: ["https://a.example", "https://b.example"]
  piggyback: true
  follow-copies: true
  queue-bytes: 2MiB
etcd: {endpoints: ["http://etcd:2379"]}
`
	env := []string{
		"COMET_ZONE=env", "COMET_EDGE_POLL_TIMEOUT=4s", "PATH=/bin", "COMET_ETCD_ENDPOINTS=http://a:1,http://b:2",
		"COMET_EDGE_PORT_8080_TCP_ADDR=10.0.0.1", "COMET_SERVICE_HOST=10.0.0.1", "COMET_PORT=tcp://10.0.0.1:80", "COMET_TEST_X=1",
	}
	c, _, err := load(t, file, env, []string{"--edge.poll-timeout=5s", "--target=edge"})
	if err != nil {
		t.Fatal(err)
	}
	want := config.Serve()
	want.File, want.Target, want.Zone, want.DrainTimeout = c.File, config.Edge, "env", time.Second
	want.Edge.PollTimeout, want.Edge.MaxInterval, want.Edge.Piggyback, want.Edge.QueueBytes = 5*time.Second, 3*time.Second, true, 2<<20
	want.Edge.FollowCopies = true
	want.Edge.AllowedOrigins = []string{"https://a.example", "https://b.example"}
	want.Etcd.Endpoints = []string{"http://a:1", "http://b:2"}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Error(diff)
	}
}

func TestNamespaces(t *testing.T) {
	c, fs, err := load(t, `
namespaces:
  - {pattern: /ticker/**, subscribe: anyone, publish: backends, messages: 0, bytes: 512KiB, age: 90s}
  - pattern: /**
    max-message-bytes: 1KiB
`, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []namespace.Options{
		{
			Pattern: "/ticker/**", Subscribe: namespace.Anyone, Publish: namespace.Backends,
			Messages: namespace.None, Bytes: 512 << 10, Age: 90 * time.Second,
		},
		{Pattern: "/**", MaxMessageBytes: 1 << 10},
	}
	if diff := cmp.Diff(want, c.Namespaces); diff != "" {
		t.Error(diff)
	}
	var out strings.Builder
	if err := c.Write(&out, fs); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		"  poll-timeout: 30s\n", "queue-bytes: 1MiB\n", "endpoints: []\n", "{pattern: /ticker/**, subscribe: anyone, publish: backends, messages: 0, ",
	} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("%q is not in\n%s", part, out.String())
		}
	}
	again, _, err := load(t, out.String(), nil, nil)
	if err != nil {
		t.Fatalf("what was printed does not load: %v\n%s", err, out.String())
	}
	again.File = c.File
	again.Edge.AllowedOrigins, again.Etcd.Endpoints = c.Edge.AllowedOrigins, c.Etcd.Endpoints // empty, not nil
	again.Namespaces, c.Namespaces = nil, nil
	if diff := cmp.Diff(c, again); diff != "" {
		t.Error(diff)
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, file string
		env, args  []string
		want       []string
	}{
		{
			"unknown key", "zone: a\nedge:\n  pol-timeout: 3s\n", nil, nil,
			[]string{"comet.yaml:3: edge.pol-timeout: unknown key; did you mean edge.poll-timeout?"},
		},
		{"unknown branch", "egde: {listen: ':1'}", nil, nil, []string{"comet.yaml:1: egde: unknown key"}},
		{"two errors", "a: 1\nb: 2", nil, nil, []string{"comet.yaml:1: a: unknown key", "comet.yaml:2: b: unknown key"}},
		{"bad duration", "drain-timeout: soon", nil, nil, []string{"comet.yaml:1: drain-timeout: ", `"soon"`}},
		{"bad size", "edge: {queue-bytes: 1MB}", nil, nil, []string{`edge.queue-bytes: "1MB" is not a size; write for example 512KiB`}},
		{"list for one", "zone: [a, b]", nil, nil, []string{"zone: want one value, not a list"}},
		{"nothing", "zone:", nil, nil, []string{"comet.yaml:1: zone: want a value"}},
		{"scalar for many", "edge: 5", nil, nil, []string{"edge: want keys and values below it"}},
		{"twice", "zone: a\nzone: b", nil, nil, []string{"comet.yaml:2: zone: given twice, first in line 1"}},
		{"not YAML", "a: [", nil, nil, []string{"comet.yaml: yaml:"}},
		{"two documents", "zone: a\n---\nzone: b", nil, nil, []string{"want one YAML document"}},
		{"a list", "- a", nil, nil, []string{"want keys and values"}},
		{
			"namespace key", "namespaces:\n  - {pattern: /a, subscribr: anyone}", nil, nil,
			[]string{"comet.yaml:2: namespaces[0].subscribr: unknown key; did you mean subscribe?"},
		},
		{"namespace age", "namespaces:\n- pattern: /a\n  age: 5", nil, nil, []string{`comet.yaml:3: namespaces[0].age: "5" is not a duration`}},
		{"namespaces", "namespaces: {pattern: /a}", nil, nil, []string{"namespaces: want a list"}},
		{
			"variable", "",
			[]string{"COMET_EDGE_POL_TIMEOUT=3s"},
			nil,
			[]string{"environment: unknown variable COMET_EDGE_POL_TIMEOUT; did you mean COMET_EDGE_POLL_TIMEOUT?"},
		},
		{"variable's value", "", []string{"COMET_EDGE_POLL_TIMEOUT=x"}, nil, []string{"COMET_EDGE_POLL_TIMEOUT (for edge.poll-timeout): "}},
		{"no file", "", []string{"COMET_CONFIG=/nowhere.yaml"}, nil, []string{"/nowhere.yaml", "no such file"}},
		{"flag", "", nil, []string{"--edge.pol-timeout=3s"}, []string{"--edge.pol-timeout; did you mean edge.poll-timeout?"}},
		{"flag's value", "", nil, []string{"--edge.poll-timeout=soon"}, []string{"--edge.poll-timeout", "soon"}},
		{"target", "", nil, []string{"--target=moon"}, []string{`target: "moon" is not one of all, edge, broker, presence`}},
		{"alone", "", nil, []string{"--target=edge"}, []string{"etcd.endpoints: target edge meets the other services through etcd"}},
		{"range", "", nil, []string{"--edge.poll-timeout=1h"}, []string{"edge.poll-timeout: 1h0m0s is not between 1s and 10m0s"}},
		{"name", "", nil, []string{"--node.name=a@b"}, []string{`node.name: "a@b" is not a name`}},
		{"never", "", nil, []string{"--broker.unclean-after=sometimes"}, []string{`"sometimes" is neither a duration nor never`}},
		{"a webhook without secret", "", nil, []string{"--presence.webhook=https://a.example"}, []string{"presence.webhook-secret-file: give both"}},
		{"a secret without webhook", "", nil, []string{"--presence.webhook-secret-file=a"}, []string{"presence.webhook-secret-file: give both"}},
		{
			"a webhook without events", "", nil,
			[]string{"--presence.webhook=https://a.example", "--presence.webhook-secret-file=a", "--presence.events=false"},
			[]string{"there is nothing to send without presence.events"},
		},
		{
			"a webhook elsewhere", "", nil,
			[]string{"--presence.webhook=ftp://a.example", "--presence.webhook-secret-file=a"},
			[]string{"presence.webhook: want a URL"},
		},
		{"too soon", "", nil, []string{"--broker.unclean-after=5s"}, []string{"broker.unclean-after: 5s is less than four times"}},
		{"more in sync than there are", "", nil, []string{"--broker.min-insync=3"}, []string{"broker.min-insync: 3 is not between 1 and 2"}},
		{"half of TLS", "", nil, []string{"--edge.tls-cert-file=x"}, []string{"give both or none"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := load(t, tt.file, tt.env, tt.args)
			if err == nil {
				t.Fatal("it was accepted")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("err = %v\nlacks %s", err, want)
				}
			}
		})
	}
}

func TestSize(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want int
		out  string
	}{{"0", 0, "0"}, {"1048576", 1 << 20, "1MiB"}, {"1 MiB", 1 << 20, "1MiB"}, {"3GiB", 3 << 30, "3GiB"}, {"7B", 7, "7"}, {"1536", 1536, "1536"}} {
		var s config.Size
		if err := s.Set(tt.in); err != nil || int(s) != tt.want || s.String() != tt.out {
			t.Errorf("%q: %d %s %v", tt.in, s, s.String(), err)
		}
	}
	for _, in := range []string{"", "-1", "1.5MiB", "MiB", "9223372036854775807GiB", "1mb"} {
		var s config.Size
		if err := s.Set(in); err == nil {
			t.Errorf("%q is %d", in, s)
		}
	}
}

func TestOrNever(t *testing.T) {
	for in, out := range map[string]string{"never": "never", "0": "never", "0s": "never", "90s": "1m30s"} {
		var o config.OrNever
		if err := o.Set(in); err != nil || o.String() != out {
			t.Errorf("%q: %s %v", in, o.String(), err)
		}
	}
	for _, in := range []string{"", "-1s", "5", "Never"} {
		var o config.OrNever
		if err := o.Set(in); err == nil {
			t.Errorf("%q is %v", in, o.String())
		}
	}
}

// FuzzFile is a small fuzz target for the walk over YAML nodes.
func FuzzFile(f *testing.F) {
	for _, s := range []string{"edge: {listen: &a ':1'}\nzone: *a", "namespaces: [{}, null, [1]]", "? [a]\n: b", "<<: {a: b}", "a: *b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if slices.Contains([]byte(text), 0) {
			t.Skip()
		}
		_, _, _ = load(t, text, nil, nil)
	})
}
