package hub

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
)

// Random publishes, commands, credits, expiry and moves: each client gets what
// it is owed, once and in order, or is told.
func TestHubAgainstModel(t *testing.T) {
	slots := []shard.Slot{17, 42}
	var channels []string
	for _, n := range slots {
		channels = append(channels, slices.Concat(sharing(n, "a", 2), sharing(n, "b", 1), sharing(n, "none", 1))...)
	}
	names := append([]string{"/a/*", "/**", "/b/**", "/none/*"}, channels...)
	rapid.Check(t, func(t *rapid.T) {
		w := &world{
			broker: newBroker(history.Class{Messages: rapid.IntRange(1, 4).Draw(t, "retained"), Age: time.Hour}),
			logs:   map[shard.Slot][]*history.Entry{},
		}
		for _, n := range slots {
			w.serve(n)
		}
		for range 2 {
			w.clients = append(w.clients, &client{
				f: w.hub.Attach(0), wishes: map[string]*wish{}, seats: map[shard.Slot]*seat{},
			})
		}
		someSlot := rapid.SampledFrom(slots)
		someClient := func(t *rapid.T) *client { return w.clients[rapid.IntRange(0, 1).Draw(t, "client")] }
		t.Repeat(map[string]func(*rapid.T){
			"publish": func(t *rapid.T) {
				w.publish(rapid.SliceOfN(rapid.SampledFrom(channels), 1, 6).Draw(t, "channels"))
				for _, c := range w.clients {
					w.checkMemory(t, c)
					w.listen(t, c)
				}
			},
			"open": func(t *rapid.T) {
				c, n := someClient(t), someSlot.Draw(t, "slot")
				log := w.slots[n].log
				start := Start{
					Given:    rapid.Bool().Draw(t, "given"),
					Since:    rapid.Uint64Range(log.Base()-2, log.End()+2).Draw(t, "since"),
					Earliest: rapid.IntRange(0, 3).Draw(t, "earliest") == 0,
				}
				if !start.Given {
					start = Start{}
				}
				c.seats[n] = &seat{opened: start}
				if err := c.f.Open(n, start); err != nil {
					t.Fatal(err)
				}
				w.listen(t, c)
			},
			"join": func(t *rapid.T) {
				c, name := someClient(t), rapid.SampledFrom(names).Draw(t, "name")
				if c.wishes[name] != nil {
					return
				}
				c.next++
				c.wishes[name] = &wish{c.next, name, map[shard.Slot]uint64{}, map[uint64]bool{}}
				if err := c.f.Join(c.next, name); err != nil {
					t.Fatal(err)
				}
				w.listen(t, c)
			},
			"leave": func(t *rapid.T) {
				c, name := someClient(t), rapid.SampledFrom(names).Draw(t, "name")
				if wish := c.wishes[name]; wish != nil {
					c.f.Leave(wish.id)
					delete(c.wishes, name)
				}
			},
			"pull":  func(t *rapid.T) { w.pull(t, someClient(t), someSlot.Draw(t, "slot")) },
			"grant": func(t *rapid.T) { someClient(t).grant(rapid.Uint64Range(0, 300).Draw(t, "bytes")) },
			"marks": func(t *rapid.T) {
				c := someClient(t)
				c.f.Marks()
				w.listen(t, c)
			},
			"expire": func(t *rapid.T) {
				w.now = w.now.Add(time.Duration(rapid.IntRange(1, 90).Draw(t, "minutes")) * time.Minute)
				for _, o := range w.slots {
					for o.log.Expire(w.now, 2) {
					}
				}
			},
			"move": func(t *rapid.T) {
				n := someSlot.Draw(t, "slot")
				w.serve(n)
				w.logs[n] = nil
				for _, c := range w.clients {
					w.listen(t, c)
				}
			},
			"": w.checkInterests,
		})
		w.settle(t)
	})
}
