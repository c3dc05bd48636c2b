package edge

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/plain"
)

// fill publishes messages to channels of many slots, and returns the channels
// in the order of their slots.
func fill(w *world, n, each int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprint("/a/", i))
	}
	for i := range each {
		for _, name := range names {
			w.broker.publish(name, fmt.Sprint(i))
		}
	}
	synctest.Wait()
	slices.SortStableFunc(names, func(a, b string) int { return int(shard.Of(a)) - int(shard.Of(b)) })
	return names
}

// The slots of a pattern are read some at once, and come in order all the same.
func TestHistoryIsReadAhead(t *testing.T) {
	const each, delay = 3, time.Millisecond
	for _, transport := range []string{"poll", "stream"} {
		t.Run(transport, func(t *testing.T) {
			inWorld(t, Config{}, func(w *world) {
				names := fill(w, 200, each)
				var want []string
				for at := range shard.Slot(shard.Slots) {
					for i := range each {
						for _, name := range names {
							if shard.Of(name) == at {
								want = append(want, fmt.Sprint(name, "=", i))
							}
						}
					}
				}
				w.broker.delay = delay
				began := time.Now()
				var got string
				if transport == "poll" {
					got = w.get("/channels/**?since=earliest&limit=1000").messages()
				} else {
					s, _ := w.open(transport, "/channels/**?since=earliest")
					got = s.messages(len(want))
				}
				took := time.Since(began)
				if got != strings.Join(want, " ") {
					w.t.Errorf("got %s, want %s", got, want)
				}
				const rounds = shard.Slots/readersAtOnce + 5 // it begins with one slot
				if took > rounds*delay || w.broker.most != readersAtOnce {
					w.t.Errorf("it took %v, with %d reads at once", took, w.broker.most)
				}
			})
		})
	}
}

// An answer that is full says where all slots begin, and the next one goes on
// there.
func TestEarliestPageByPage(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		fill(w, 200, 2)
		seen, since := map[string]bool{}, "earliest"
		for range 5 {
			page := w.get("/channels/**?limit=100&since=" + since)
			for m := range strings.FieldsSeq(page.messages()) {
				if seen[m] {
					w.t.Errorf("%s came twice", m)
				}
				seen[m] = true
			}
			since = page.cursor()
		}
		if len(seen) != 400 {
			w.t.Errorf("%d messages, want 400", len(seen))
		}
	})
}

// A cursor with positions that some logs do not have: its channels are told of
// once, and what comes then comes once, from where the logs end.
func TestStrayCursor(t *testing.T) {
	for _, transport := range []string{"poll", "long-poll", "stream"} {
		t.Run(transport, func(t *testing.T) {
			inWorld(t, Config{}, func(w *world) {
				names := fill(w, 20, 3)
				pattern := []string{"/a/*"}
				ends := map[shard.Slot]uint64{}
				for slot, log := range w.broker.logs {
					ends[slot] = uint64(len(log))
				}
				stray := maps.Clone(ends)
				stray[shard.Of(names[3])], stray[shard.Of(names[5])] = 99, 1<<40
				path := "/channels/a/*?since=" + shard.FormatCursor(pattern, stray)
				var told message
				if transport == "stream" {
					s, _ := w.open(transport, path)
					told = s.next().object
					told["resync"] = told["channels"]
					w.broker.publish(names[3], "9")
					if got := s.messages(1); got != names[3]+"=9" {
						w.t.Errorf("got %s", got)
					}
				} else {
					told = w.get(path + "&transport=" + transport).object
					w.broker.publish(names[3], "9")
				}
				synctest.Wait()
				cursor, _ := told["cursor"].(string)
				at, err := shard.ParseCursor(pattern, cursor)
				maps.DeleteFunc(at, func(_ shard.Slot, end uint64) bool { return end == 0 })
				if err != nil || fmt.Sprint(told["resync"]) != "[/a/*]" || !maps.Equal(at, ends) {
					w.t.Errorf("told %v: %v, %v, want %v", told, err, at, ends)
				}
				next := w.get("/channels/a/*?since=" + cursor)
				if next.messages() != names[3]+"=9" || next.object["resync"] != nil {
					w.t.Errorf("got %s", next.text)
				}
			})
		})
	}
}

// Where since is no position, the end of a page is the broker's and not since.
func TestPageOfStraySince(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		slot := shard.Of(fill(w, 1, 3)[0])
		q := &plain.SlotRead{Slot: slot, Channels: []string{"/a/*"}, Since: 99, Limit: 9}
		asked := pageOf(q)
		found := w.service.reads.read(w.t.Context(), &asked)
		if page := found.pageOf(q); found.err != nil || page.Through != 3 || fmt.Sprint(page.Lost, page.Events) != "[/a/*] []" {
			w.t.Errorf("%v, %+v", found.err, page)
		}
	})
}
