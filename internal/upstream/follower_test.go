package upstream_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/internal/upstream"
)

// following is a running Follower and its sink, which writes down what comes.
type following struct {
	*upstream.Follower
	t    *testing.T
	c    *cluster
	end  context.CancelFunc
	done chan error

	mu      sync.Mutex
	slow    time.Duration // how long each call of Entries takes
	got     []happening
	through map[shard.Slot]uint64
	lossy   map[shard.Slot][]int // resyncs since the last Through
}

// happening is one call of the sink.
type happening struct {
	moment
	slot     shard.Slot
	entry    *brokerv1.Entry
	resync   []string
	joined   string
	from     []shard.Position
	position uint64 // of a resync, or of Through
	over     uint64 // of a resync: the first Through after it, or 0
}

func startFollower(t *testing.T, c *cluster, cfg upstream.FollowerConfig, joins ...string) *following {
	t.Helper()
	cfg.Directory, cfg.Conns, cfg.Logger = c.dir, c.pool, quiet
	f := &following{t: t, c: c, done: make(chan error, 1), through: map[shard.Slot]uint64{}, lossy: map[shard.Slot][]int{}}
	f.Follower = upstream.NewFollower(cfg, f)
	for _, ch := range joins {
		f.Join(ch)
	}
	ctx, end := context.WithCancel(context.Background())
	f.end = end
	go func() { f.done <- f.Run(ctx) }()
	synctest.Wait()
	return f
}

func (f *following) stop() {
	f.t.Helper()
	f.end()
	if err := <-f.done; err != nil {
		f.t.Error(err)
	}
}

func (f *following) add(h happening) {
	h.moment = f.c.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.got = append(f.got, h)
}

// Entries implements upstream.Sink.
func (f *following) Entries(slot shard.Slot, entries []*brokerv1.Entry) {
	for _, e := range entries {
		f.add(happening{slot: slot, entry: e})
	}
	f.mu.Lock()
	slow := f.slow
	f.mu.Unlock()
	time.Sleep(slow)
}

// Resync implements upstream.Sink.
func (f *following) Resync(at shard.Position, channels []string) {
	f.add(happening{slot: at.Slot, resync: channels, position: at.Offset})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lossy[at.Slot] = append(f.lossy[at.Slot], len(f.got)-1)
}

// Through implements upstream.Sink.
func (f *following) Through(at shard.Position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range f.lossy[at.Slot] {
		f.got[i].over = at.Offset
	}
	delete(f.lossy, at.Slot)
	if f.through[at.Slot] != at.Offset {
		f.got = append(f.got, happening{moment: f.c.now(), slot: at.Slot, position: at.Offset})
	}
	f.through[at.Slot] = at.Offset
}

// Joined implements upstream.Sink.
func (f *following) Joined(channel string, from []shard.Position) {
	f.add(happening{joined: channel, from: from})
}

// entries returns the data of what came.
func (f *following) entries() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var data []string
	for _, h := range f.got {
		if h.entry != nil {
			data = append(data, string(h.entry.GetData()))
		}
	}
	return data
}

// answers returns the Joined calls for a channel.
func (f *following) answers(channel string) []happening {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []happening
	for _, h := range f.got {
		if h.joined == channel {
			all = append(all, h)
		}
	}
	return all
}

// resyncs returns what was said to be lost.
func (f *following) resyncs() []happening {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []happening
	for _, h := range f.got {
		if h.resync != nil {
			all = append(all, h)
		}
	}
	return all
}

func (f *following) want(data ...string) {
	f.t.Helper()
	if got := f.entries(); !slices.Equal(got, data) {
		f.t.Errorf("the sink got %v, want %v", got, data)
	}
}

func TestFollowerHandsOverWhatWasJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		f := startFollower(t, c, upstream.FollowerConfig{})
		defer f.stop()
		c.publish("/a", "before")
		f.Join("/a")
		f.Join("/b/*")
		synctest.Wait()
		if got := f.answers("/a"); len(got) != 1 || len(got[0].from) != 1 || got[0].from[0] != (shard.Position{
			Slot: shard.Of("/a"), Offset: c.slots[shard.Of("/a")].log().end(),
		}) {
			t.Errorf("/a was answered %v", got)
		}
		if got := f.answers("/b/*"); len(got) != 1 || len(got[0].from) != shard.Slots {
			t.Errorf("/b/* was answered %v", got)
		}
		c.publish("/a", "1")
		c.publish("/c", "nobody's")
		synctest.Wait()
		c.publish("/b/1", "2")
		synctest.Wait()
		c.publish("/b/2", "3")
		synctest.Wait()
		f.want("1", "2", "3")
		f.Leave("/a")
		f.Leave("/b/*")
		synctest.Wait()
		c.publish("/a", "4")
		c.publish("/b/1", "5")
		synctest.Wait()
		f.want("1", "2", "3")
	})
}

func TestJoinIsAnsweredOnceAcrossAReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		f := startFollower(t, c, upstream.FollowerConfig{}, "/a", "/**")
		defer f.stop()
		f.Join("/a")
		for _, b := range c.brokers() {
			b.cut()
			time.Sleep(2 * time.Second)
		}
		c.publish("/a", "1")
		synctest.Wait()
		f.want("1")
		for _, ch := range []string{"/a", "/**"} {
			if got := f.answers(ch); len(got) != 1 {
				t.Errorf("%s was answered %d times", ch, len(got))
			}
		}
	})
}

func TestJoinIsAnsweredOnceItsSlotHasAnOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 0)
		f := startFollower(t, c, upstream.FollowerConfig{Slots: []shard.Slot{shard.Of("/a"), shard.Of("/b")}}, "/a", "/*")
		defer f.stop()
		b := c.start()
		c.move(shard.Of("/a"), b, 0, 0)
		time.Sleep(time.Minute)
		if len(f.answers("/a")) != 1 || len(f.answers("/*")) != 0 {
			t.Errorf("one slot: %v, %v", f.answers("/a"), f.answers("/*"))
		}
		c.move(shard.Of("/b"), b, 0, 700*time.Millisecond)
		time.Sleep(2 * time.Second)
		if got := f.answers("/*"); len(got) != 1 || len(got[0].from) != 2 {
			t.Errorf("both slots: %v", got)
		}
	})
}

func TestLeaveBeforeTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		b := c.brokers()[0]
		f := startFollower(t, c, upstream.FollowerConfig{})
		defer f.stop()
		b.set(func() { b.delay = 100 * time.Millisecond })
		f.Join("/a")
		f.Join("/*")
		synctest.Wait()
		f.Leave("/a")
		f.Leave("/*")
		time.Sleep(time.Second)
		if len(f.answers("/a"))+len(f.answers("/*")) != 0 {
			t.Error("a Join that was taken back was answered")
		}
		f.Join("/a")
		f.Leave("/a")
		f.Join("/a") // one wish, by now
		time.Sleep(time.Second)
		if got := f.answers("/a"); len(got) != 1 {
			t.Errorf("answered %d times", len(got))
		}
	})
}

func TestJoinAgainIsAnsweredAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		f := startFollower(t, c, upstream.FollowerConfig{}, "/a", "/*")
		defer f.stop()
		at := c.publish("/a", "1")
		synctest.Wait()
		for _, ch := range []string{"/a", "/*"} {
			f.Leave(ch)
			f.Join(ch)
		}
		synctest.Wait()
		for _, ch := range []string{"/a", "/*"} {
			got := f.answers(ch)
			if len(got) != 2 || !slices.Contains(got[1].from, shard.Position{Slot: shard.Of("/a"), Offset: at}) {
				t.Errorf("%s: answered %v", ch, got)
			}
		}
		c.publish("/a", "2")
		synctest.Wait()
		f.want("1", "2")
	})
}

func TestNothingIsMissedAcrossACut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		f := startFollower(t, c, upstream.FollowerConfig{}, "/a", "/b/**")
		defer f.stop()
		c.publish("/a", "1")
		synctest.Wait()
		for _, b := range c.brokers() {
			b.cut()
		}
		c.publish("/a", "2")
		c.publish("/a", "3")
		time.Sleep(2 * time.Second)
		c.publish("/a", "4")
		synctest.Wait()
		f.want("1", "2", "3", "4")
		if got := f.resyncs(); len(got) != 0 {
			t.Errorf("resyncs %v", got)
		}
	})
}

func TestASilentStreamIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		b := c.brokers()[0]
		reg := prometheus.NewRegistry()
		f := startFollower(t, c, upstream.FollowerConfig{Registerer: reg}, "/a")
		defer f.stop()
		b.set(func() { b.mute = true })
		c.publish("/a", "1")
		time.Sleep(4500 * time.Millisecond)
		b.set(func() { b.mute = false })
		time.Sleep(5 * time.Second)
		f.want("1")
		var hellos int
		b.set(func() { hellos = b.hellos })
		if hellos < 2 || hellos > 3 {
			t.Errorf("%d streams", hellos)
		}
		if n := counted(t, reg, "comet_upstream_reconnects_total"); n == 0 {
			t.Error("the reconnect was not counted")
		}
	})
}

func TestALogThatBeganAnewIsAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		f := startFollower(t, c, upstream.FollowerConfig{}, "/a", "/b/**")
		defer f.stop()
		c.publish("/a", "1")
		synctest.Wait()
		_, other := c.owner("/a")
		c.move(shard.Of("/a"), other, 0, 0)
		c.publish("/a", "2")
		time.Sleep(time.Second)
		c.publish("/a", "3")
		synctest.Wait()
		f.want("1", "2", "3")
		got := f.resyncs()
		if len(got) != 1 || !slices.Equal(got[0].resync, []string{"/a", "/b/**"}) ||
			got[0].position != c.slots[shard.Of("/a")].log().base {
			t.Errorf("resyncs %v", got)
		}
	})
}

func TestALogThatBeganAnewIsAnnouncedAfterACut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		f := startFollower(t, c, upstream.FollowerConfig{}, "/a")
		defer f.stop()
		_, other := c.owner("/a")
		other.set(func() { other.deaf = true })
		c.move(shard.Of("/a"), other, 0, 0)
		time.Sleep(time.Second)
		other.set(func() { other.deaf = false })
		other.cut()
		c.publish("/a", "1")
		time.Sleep(2 * time.Second)
		f.want("1")
		if got := f.resyncs(); len(got) != 1 || !slices.Equal(got[0].resync, []string{"/a"}) {
			t.Errorf("resyncs %v", got)
		}
	})
}

// The follower can know of a term before its primary does.
func TestABrokerThatIsBehindIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		reg := prometheus.NewRegistry()
		f := startFollower(t, c, upstream.FollowerConfig{Registerer: reg}, "/a")
		defer f.stop()
		owner, _ := c.owner("/a")
		go func() {
			time.Sleep(time.Second)
			c.publish("/a", "old")
		}()
		c.move(shard.Of("/a"), owner, 5*time.Second, 5*time.Second)
		time.Sleep(2 * time.Second)
		c.publish("/a", "new")
		synctest.Wait()
		f.want("new")
		if got := f.resyncs(); len(got) != 1 {
			t.Errorf("resyncs %v", got)
		}
		if n := counted(t, reg, "comet_upstream_reconnects_total"); n != 0 {
			t.Errorf("%v reconnects", n)
		}
	})
}

// A slot can come back to a broker whose stream lived on.
func TestASlotComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		f := startFollower(t, c, upstream.FollowerConfig{}, "/a", "/**")
		defer f.stop()
		owner, other := c.owner("/a")
		owner.set(func() { owner.delay = 300 * time.Millisecond })
		c.publish("/a", "1")
		c.move(shard.Of("/a"), other, 0, 0)
		c.move(shard.Of("/a"), owner, 0, 0)
		c.publish("/a", "2")
		time.Sleep(5 * time.Second)
		c.publish("/a", "3")
		time.Sleep(5 * time.Second)
		if got := f.entries(); !slices.Equal(got, []string{"2", "3"}) && !slices.Equal(got, []string{"1", "2", "3"}) {
			t.Errorf("got %v", got)
		}
	})
}

func TestASlowSinkIsPulledFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		reg := prometheus.NewRegistry()
		f := startFollower(t, c, upstream.FollowerConfig{Credit: 1000, Registerer: reg}, "/a")
		defer f.stop()
		f.mu.Lock()
		f.slow = 5 * time.Second // longer than three heartbeats
		f.mu.Unlock()
		all := names("m", 100)
		for _, d := range all {
			c.publish("/a", d)
		}
		time.Sleep(20 * time.Second)
		f.mu.Lock()
		f.slow = 0
		f.mu.Unlock()
		time.Sleep(20 * time.Second)
		f.want(all...)
		b := c.brokers()[0]
		var hellos int
		b.set(func() { hellos = b.hellos })
		if hellos != 1 {
			t.Errorf("%d streams: the follower took its own slowness for silence", hellos)
		}
		if n := counted(t, reg, "comet_upstream_lags_total"); n == 0 {
			t.Error("the lag was not counted")
		}
	})
}

func TestRetentionThatRanOutIsAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		c.retain = 2
		f := startFollower(t, c, upstream.FollowerConfig{}, "/a", "/b")
		defer f.stop()
		c.publish("/a", "1")
		synctest.Wait()
		c.brokers()[0].cut()
		for _, d := range []string{"2", "3", "4"} {
			c.publish("/a", d)
		}
		c.publish("/b", "5")
		time.Sleep(2 * time.Second)
		got := f.resyncs()
		if len(got) != 1 || !slices.Equal(got[0].resync, []string{"/a"}) {
			t.Errorf("resyncs %v", got)
		}
		data := f.entries()
		slices.Sort(data)
		if !slices.Equal(data, []string{"1", "3", "4", "5"}) {
			t.Errorf("got %v", data)
		}
	})
}

func TestFollowerBeginsWhereItIsTold(t *testing.T) {
	channel := "/a"
	slot := shard.Of(channel)
	for name, tt := range map[string]struct {
		retain  int
		config  func(first, third uint64) upstream.FollowerConfig
		want    []string
		resyncs int
	}{
		"end":                {0, func(uint64, uint64) upstream.FollowerConfig { return upstream.FollowerConfig{} }, []string{"new"}, 0},
		"since":              {0, since(slot, false), []string{"4", "new"}, 0},
		"since, lost":        {1, func(first, _ uint64) upstream.FollowerConfig { return since(slot, false)(0, first) }, []string{"4", "new"}, 1},
		"since, another log": {0, func(uint64, uint64) upstream.FollowerConfig { return since(slot, false)(0, 7) }, []string{"1", "2", "3", "4", "new"}, 1},
		"earliest":           {0, func(uint64, uint64) upstream.FollowerConfig { return upstream.FollowerConfig{Earliest: true} }, []string{"1", "2", "3", "4", "new"}, 0},
		"earliest, lost":     {2, func(uint64, uint64) upstream.FollowerConfig { return upstream.FollowerConfig{Earliest: true} }, []string{"3", "4", "new"}, 0},
		"earliest and since": {0, since(slot, true), []string{"4", "new"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 2)
				c.retain = tt.retain
				first := c.publish(channel, "1")
				c.publish(channel, "2")
				third := c.publish(channel, "3")
				c.publish(channel, "4")
				f := startFollower(t, c, tt.config(first, third), channel)
				defer f.stop()
				time.Sleep(time.Second)
				c.publish(channel, "new")
				synctest.Wait()
				f.want(tt.want...)
				if got := f.resyncs(); len(got) != tt.resyncs {
					t.Errorf("resyncs %v", got)
				}
			})
		})
	}
}

func since(s shard.Slot, earliest bool) func(first, third uint64) upstream.FollowerConfig {
	return func(_, third uint64) upstream.FollowerConfig {
		return upstream.FollowerConfig{Since: map[shard.Slot]uint64{s: third}, Earliest: earliest}
	}
}

func TestABrokerThatRepeatsItselfIsNotTrusted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		f := startFollower(t, c, upstream.FollowerConfig{}, "/a")
		defer f.stop()
		c.publish("/a", "1")
		synctest.Wait()
		b := c.brokers()[0]
		b.set(func() {
			e := c.slots[shard.Of("/a")].log().entries[0]
			for st := range b.streams {
				st.entry(uint32(shard.Of("/a")), e)
			}
		})
		time.Sleep(2 * time.Second)
		c.publish("/a", "2")
		synctest.Wait()
		f.want("1", "2")
		if got := f.resyncs(); len(got) != 1 || !slices.Equal(got[0].resync, []string{"/a"}) {
			t.Errorf("resyncs %v", got)
		}
	})
}

func TestThroughMovesWithMarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		f := startFollower(t, c, upstream.FollowerConfig{}, "/a")
		defer f.stop()
		at := c.publish("/b", "of no interest")
		time.Sleep(1100 * time.Millisecond)
		f.mu.Lock()
		defer f.mu.Unlock()
		if got := f.through[shard.Of("/b")]; got != at {
			t.Errorf("complete through %d, want %d", got, at)
		}
	})
}

func TestManyInterests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		const n = 20_000
		f := startFollower(t, c, upstream.FollowerConfig{})
		defer f.stop()
		for i := range n {
			f.Join(fmt.Sprintf("/many/%d", i))
		}
		time.Sleep(time.Second)
		for _, b := range c.brokers() {
			b.cut()
		}
		time.Sleep(2 * time.Second)
		joined := 0
		f.mu.Lock()
		for _, h := range f.got {
			if h.joined != "" {
				joined++
			}
		}
		f.mu.Unlock()
		if joined != n {
			t.Errorf("%d joins were answered", joined)
		}
		c.publish("/many/777", "1")
		synctest.Wait()
		f.want("1")
	})
}

func counted(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Errorf("no metric %s", name)
	return 0
}
