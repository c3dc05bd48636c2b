package plain_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/plain"
)

// Nothing is missed without a resync, whatever the order of joins, reads and
// pushes, the room in the stream, and the cursor that a client goes on from.
func TestNothingIsMissed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t, plain.Config{
			Page:          rapid.SampledFrom([]int{1, 2, 100}).Draw(t, "page"),
			Ahead:         rapid.SampledFrom([]int{1, 2, 16}).Draw(t, "ahead"),
			Burst:         rapid.SampledFrom([]int{1, 100, 1 << 16}).Draw(t, "burst"),
			QueueMessages: rapid.SampledFrom([]int{1, 3, 100}).Draw(t, "queue"),
		})
		m.run(t)
		m.finish(t)
	})
}

// What a slow client misses is counted.
func TestDropsAreCounted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t, plain.Config{
			QueueMessages: rapid.SampledFrom([]int{1, 3}).Draw(t, "queue"),
			Slow: func(channel string) plain.Policy {
				switch channel {
				case "/b":
					return plain.DropOldest
				case "/a/x":
					return plain.Conflate
				}
				return plain.Recover
			},
		})
		m.run(t)
		m.finish(t)
	})
}

func (m *model) run(t *rapid.T) {
	channel := rapid.SampledFrom(names())
	push := func(t *rapid.T) {
		name := channel.Draw(t, "channel")
		if slot := shard.Of(name); m.pushed[slot] == m.end(slot) {
			m.write(name)
		}
		m.push(t, shard.Of(name))
	}
	t.Repeat(map[string]func(*rapid.T){
		"push": push, "push again": push, "push more": push,
		"write": func(t *rapid.T) { m.write(channel.Draw(t, "channel")) },
		"task":  m.task, "task again": m.task,
		"tasks": func(t *rapid.T) {
			for len(m.tasks) > 0 {
				m.task(t)
			}
		},
		"expire": func(t *rapid.T) {
			name := channel.Draw(t, "channel")
			m.keep[name] = rapid.Uint64Range(m.keep[name], m.end(shard.Of(name))).Draw(t, "through")
		},
		"lose": func(t *rapid.T) {
			name := channel.Draw(t, "channel")
			m.write(name)
			m.lose(t, shard.Of(name))
		},
		"writable": func(t *rapid.T) {
			if m.blocked {
				m.writable(t)
			}
		},
		"wait": func(t *rapid.T) {
			m.tick(t, time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "time")))
		},
		"client": m.client,
	})
}

// client is what does not happen often in the life of a connection.
func (m *model) client(t *rapid.T) {
	switch rapid.IntRange(0, 9).Draw(t, "client") {
	case 0:
		var out plain.Effects
		m.r.End(m.now, plain.Draining, time.Second, &out)
		m.settle(t, &out)
	case 1: // it knows a cursor of another log
		at := map[shard.Slot]uint64{}
		for _, slot := range shard.SlotsOf(m.channels) {
			at[slot] = rapid.SampledFrom([]uint64{0, m.end(slot), future}).Draw(t, "stray")
		}
		m.connect(t, shard.FormatCursor(m.channels, at))
	case 2, 3:
		if len(m.cursors) > 0 {
			m.connect(t, rapid.SampledFrom(m.cursors).Draw(t, "cursor"))
		}
	default:
		if m.ended != "" {
			m.connect(t, m.cursors[len(m.cursors)-1])
		}
	}
}

func (m *model) task(t *rapid.T) {
	if len(m.tasks) == 0 {
		return
	}
	i := rapid.IntRange(0, len(m.tasks)-1).Draw(t, "task")
	task := m.tasks[i]
	m.tasks = append(m.tasks[:i:i], m.tasks[i+1:]...)
	task(t)
}

func (m *model) writable(t *rapid.T) {
	m.blocked = false
	var out plain.Effects
	m.r.Writable(m.now, &out)
	m.settle(t, &out)
}

// tick lets time pass, and the timers with it.
func (m *model) tick(t *rapid.T, d time.Duration) {
	until := m.now.Add(d)
	for m.ended == "" {
		due := m.r.Deadline()
		if due.IsZero() || due.After(until) {
			break
		}
		m.now = due
		var out plain.Effects
		m.r.Tick(m.now, &out)
		m.settle(t, &out)
		if next := m.r.Deadline(); m.ended == "" && !next.IsZero() && !next.After(due) {
			t.Fatalf("due at %v again", next)
		}
	}
	m.now = until
}

// finish lets everything happen that is under way, and looks for what is
// missing then. A request that has ended is followed by the next.
func (m *model) finish(t *rapid.T) {
	m.calm = true
	for round := 0; ; round++ {
		if round > 2000 {
			t.Fatalf("it comes to no end: %v", m)
		}
		switch {
		case m.ended != "" && m.shape == plain.Stream || m.ended == plain.Refused || m.ended == plain.Answered && !m.caughtUp():
			m.connect(t, m.cursors[len(m.cursors)-1])
		case m.blocked:
			m.writable(t)
		case len(m.tasks) > 0:
			m.task(t)
		case m.pushAll(t):
		case m.ended == "" && m.shape == plain.Stream && !m.caughtUp():
			m.tick(t, m.cfg.Heartbeat)
		default:
			return
		}
	}
}

// pushAll pushes an entry and reports whether there was one.
func (m *model) pushAll(t *rapid.T) bool {
	for _, name := range names() {
		if slot := shard.Of(name); m.pushed[slot] < m.end(slot) {
			m.push(t, slot)
			return true
		}
	}
	return false
}

// caughtUp reports whether the newest cursor is at the end.
func (m *model) caughtUp() bool {
	if len(m.cursors) == 0 {
		return false
	}
	since, err := shard.ParseSince(m.channels, m.cursors[len(m.cursors)-1])
	if err != nil || since.At == nil {
		return false
	}
	for _, slot := range shard.SlotsOf(m.channels) {
		if at := since.At[slot]; at < m.end(slot) || at >= future {
			return false
		}
	}
	return true
}
