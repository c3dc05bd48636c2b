package holder

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/comet-push/comet/internal/home"
	"github.com/comet-push/comet/internal/shard"
)

// all is all shards, as held by a process that is the first holder of them.
func all(epoch uint64, first bool) map[shard.PresenceShard]Held {
	held := make(map[shard.PresenceShard]Held)
	for s := range shard.PresenceShard(shard.PresenceShards) {
		held[s] = Held{Epoch: epoch, First: first}
	}
	return held
}

// TestSize holds many sessions with two channels each and wants them to take no
// more than 400 bytes each, with 64 bytes to resume from.
func TestSize(t *testing.T) {
	const sessions, most = 100_000, 400
	for _, tt := range []struct {
		name     string
		first    bool
		channels int
		user     bool
		most     uint64
	}{
		{"as first holder", true, 2000, false, most},
		{"as second holder", false, 2000, false, most},
		{"users with one session each", true, 2000, true, most + 100},
		{"channels with one session each", true, 2 * sessions, false, 3 * most},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := New(Config{Sessions: sessions, Channels: 2, Resume: 64})
			h.SetHeld(all(1, tt.first))
			h.SetEdges([]string{"e@1"}, time.Unix(1, 0))
			f, err := h.Attach("e@1", func() {})
			if err != nil {
				t.Fatal(err)
			}
			before := allocated()
			for i := range sessions {
				hash := sha256.Sum256([]byte{byte(i), byte(i >> 8), byte(i >> 16)})
				st := State{Transport: "long-polling", Since: time.Unix(int64(i), 0), Generation: home.First(1), Adoptable: time.Minute}
				for c := range 2 {
					st.Channels = append(st.Channels, fmt.Sprintf("/room/%06d", (2*i+c)%tt.channels))
				}
				if tt.user {
					st.User = fmt.Sprintf("user-%06d", i)
				}
				st.Resume = []byte(strings.Repeat("r", 64))
				id := "0a1b2c3d-" + base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(hash[:16])
				if err := f.Present(id, st, time.Unix(int64(i), 0)); err != nil {
					t.Fatal(err)
				}
			}
			each := (allocated() - before) / sessions
			t.Logf("%d bytes per session", each)
			if each > tt.most {
				t.Errorf("%d bytes per session, at most %d are allowed", each, tt.most)
			}
			runtime.KeepAlive(h)
		})
	}
}

func allocated() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
