package etcd

import (
	"strings"
	"testing"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
)

func TestNewChecksEndpoints(t *testing.T) {
	for _, tt := range []struct {
		name      string
		endpoints []string
		bad       string // what the error names; empty: no error
	}{
		{"host and port", []string{"etcd:2379"}, ""},
		{"address and port", []string{"127.0.0.1:2379", "[::1]:2379"}, ""},
		{"URL", []string{"http://etcd:2379", "https://etcd:2379/"}, ""},
		{"none", nil, "no etcd endpoints"},
		{"empty", []string{""}, `""`},
		{"no port", []string{"http://etcd"}, `"http://etcd"`},
		{"no host", []string{":2379"}, `":2379"`},
		{"other scheme", []string{"ftp://etcd:2379"}, `"ftp://etcd:2379"`},
		{"path", []string{"http://etcd:2379/v3"}, `"http://etcd:2379/v3"`},
		{"second is bad", []string{"etcd:2379", "etcd:port"}, `"etcd:port"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, err := New(Config{Endpoints: tt.endpoints})
			switch {
			case tt.bad == "" && err != nil:
				t.Errorf("error %v, want none", err)
			case tt.bad != "" && (err == nil || !strings.Contains(err.Error(), tt.bad)):
				t.Errorf("error %v, want one that names %s", err, tt.bad)
			}
			if d != nil {
				_ = d.client.Close() // nothing was sent
			}
		})
	}
}

func TestKeys(t *testing.T) {
	k := keys("/comet")
	for _, s := range []shard.Slot{0, 7, 255} {
		if got, ok := k.slotOf(k.slot(s)); !ok || got != s {
			t.Errorf("slot %d is read back as %d, %v", s, got, ok)
		}
	}
	if k.slot(7) != "/comet/slots/007" {
		t.Errorf("slot 7 has key %s", k.slot(7))
	}
	for _, key := range []string{"/comet/slots/256", "/comet/slots/x", "/comet/nodes/007", "/comet/probe", "007"} {
		if s, ok := k.slotOf(key); ok {
			t.Errorf("%s is slot %d", key, s)
		}
	}

	for _, s := range []shard.PresenceShard{0, 7, 255} {
		if got, ok := k.shardOf(k.holders(s)); !ok || got != s {
			t.Errorf("presence shard %d is read back as %d, %v", s, got, ok)
		}
	}
	if k.holders(7) != "/comet/presence/007" {
		t.Errorf("presence shard 7 has key %s", k.holders(7))
	}
	for _, key := range []string{"/comet/presence/256", "/comet/presence/x", "/comet/slots/007", "007"} {
		if s, ok := k.shardOf(key); ok {
			t.Errorf("%s is presence shard %d", key, s)
		}
	}

	n := membership.Node{Name: "b", ID: "5"}
	for other, want := range map[string]bool{
		"b@4": true, "b@5": false, "b@50": true, "b@6": true, "b@": true,
		"a@5": false, "bb@5": false, "b-1@5": false, "c@5": false,
	} {
		key, in := k.node(other), false
		for _, o := range k.others(n) {
			in = in || o.from <= key && key < o.end
		}
		if in != want {
			t.Errorf("%s is another node named b: %v, want %v", other, in, want)
		}
	}
}
