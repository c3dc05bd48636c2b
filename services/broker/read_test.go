package broker_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	"github.com/comet-push/comet/internal/namespace"
	"github.com/comet-push/comet/internal/shard"
)

// sameSlot returns channels under a prefix that share a channel's slot.
func sameSlot(as, prefix string, n int) (names []string) {
	for i := 0; len(names) < n; i++ {
		if name := fmt.Sprint(prefix, "/", i); shard.Of(name) == shard.Of(as) {
			names = append(names, name)
		}
	}
	return names
}

// slotRead is a read of a slot, and what came of it, in words.
type slotRead struct {
	*member
	slot  shard.Slot
	names []string
}

func (r slotRead) since(since *uint64, limit uint32) (entries string, resp *brokerv1.ReadResponse) {
	r.t.Helper()
	resp, err := r.broker.Read(r.t.Context(), &brokerv1.ReadRequest{
		Slot: new(uint32(r.slot)), Channels: r.names, Since: since, Limit: limit,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	var data []string
	for _, e := range resp.GetEntries() {
		data = append(data, string(e.GetData()))
	}
	return strings.Join(data, " "), resp
}

func TestReadOfASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.namespaces = []namespace.Options{
			{Pattern: "/brief/**", Subscribe: namespace.Anyone, Publish: namespace.Anyone, Age: 10 * time.Second},
		}
		a := c.start("a")
		slot := shard.Of("/r")
		long, brief := sameSlot("/r", "/long", 2), sameSlot("/r", "/brief", 1)[0]
		read := slotRead{a, slot, []string{"/long/*", "/r", "/brief/**", "/of-another-slot"}}
		want := func(name, got, want string) {
			t.Helper()
			if got != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
		}

		_, empty := read.since(nil, 0)
		begin := empty.GetThrough()
		first := a.publish(long[0], "1")
		a.publish(brief, "2")
		a.publish("/r", "3")
		end := a.publish(long[1], "4")
		got, page := read.since(&begin, 3)
		want("page", got, "1 2 3")
		at := page.GetThrough()
		got, page = read.since(&at, 3)
		want("next page", got, "4")
		if page.GetThrough() != end || page.GetLost() || len(page.GetLostChannels()) > 0 {
			t.Errorf("at the end: %v", page)
		}
		got, page = read.since(&begin, 0)
		if got != "" || page.GetThrough() != end {
			t.Errorf("only through: %v", page)
		}

		time.Sleep(30 * time.Second) // brief messages expire
		got, page = read.since(&begin, 9)
		want("after some expired", got, "1 3 4")
		want("lost of these", fmt.Sprint(page.GetLostChannels(), page.GetLost()), "[/brief/**] false")
		got, page = read.since(nil, 9)
		want("all that is retained", got, "1 3 4")
		want("lost of that", fmt.Sprint(page.GetLostChannels(), page.GetLost()), "[] false")
		got, page = read.since(&end, 9)
		want("from the end", got+fmt.Sprint(page.GetLostChannels()), "[]")
		for name, since := range map[string]uint64{"below the log": first - 2, "above the log": end + 1} {
			got, page = read.since(&since, 9)
			if got != "" || !page.GetLost() || len(page.GetLostChannels()) != 3 || page.GetThrough() != end {
				t.Errorf("%s: %v", name, page)
			}
		}
		read.names = []string{"/of-another-slot"}
		if got, page = read.since(nil, 9); got != "" || page.GetThrough() != end || page.GetLost() {
			t.Errorf("of nothing that is here: %v", page)
		}
	})
}

func TestReadsOfManyBytesArePaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newCluster(t).start("a")
		large := `"` + strings.Repeat("x", 500<<10) + `"`
		for _, channel := range sameSlot("/large", "/large", 7) { // each keeps one or two
			a.publish(channel, large)
		}
		read := slotRead{a, shard.Of("/large"), []string{"/**"}}
		var since *uint64
		n, pages := 0, 0
		for end := uint64(0); since == nil || *since < end; pages++ {
			_, resp := read.since(since, 100)
			_, tail := read.since(nil, 0)
			at := resp.GetThrough()
			since, end = &at, tail.GetThrough()
			n += len(resp.GetEntries())
		}
		if n != 7 || pages < 2 {
			t.Errorf("%d entries in %d pages", n, pages)
		}
	})
}

func TestReadRefusesWhatMakesNoSense(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newCluster(t).start("a")
		slot := proto.Uint32(7)
		for name, req := range map[string]*brokerv1.ReadRequest{
			"nothing":             {Limit: 1},
			"pattern as channel":  {Channel: "/a/*", Limit: 1},
			"channels, no slot":   {Channels: []string{"/a"}, Limit: 1},
			"both":                {Channel: "/a", Channels: []string{"/a"}, Limit: 1},
			"slot and channel":    {Slot: slot, Channel: "/a", Channels: []string{"/a"}, Limit: 1},
			"slot, no channels":   {Slot: slot, Limit: 1},
			"no such slot":        {Slot: proto.Uint32(shard.Slots), Channels: []string{"/a"}, Limit: 1},
			"slot in reverse":     {Slot: slot, Channels: []string{"/a"}, Limit: 1, Reverse: true},
			"an impossible name":  {Slot: slot, Channels: []string{"/a", "b"}, Limit: 1},
			"a name beyond reach": {Slot: slot, Channels: []string{"/meta/**"}, Limit: 1},
		} {
			if _, err := a.broker.Read(t.Context(), req); status.Code(err) != codes.InvalidArgument {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
