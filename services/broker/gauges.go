package broker

import (
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
)

// maxCopies is the most copies that are told apart.
const maxCopies = 4

// gauges show the state of all places: counted when somebody asks.
type gauges struct {
	places *places

	slots, followed, inSync, underReplicated, uncommitted, waiting, history, withoutHolder *prometheus.Desc
}

func newGauges(s *places) *gauges {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("comet_broker_"+name, help, labels, nil)
	}
	return &gauges{
		places:          s,
		slots:           desc("slots", "Slots of which this broker has a copy: as their primary, or as a backup.", "role"),
		followed:        desc("slots_followed_at_backup", "Slots that edges follow here though another broker leads them."),
		inSync:          desc("slots_in_sync", "Slots led here, by how many copies are in sync; 4 is 4 or more.", "copies"),
		underReplicated: desc("slots_under_replicated", "Slots led here of which a copy that there should be is not in sync."),
		uncommitted:     desc("uncommitted_bytes", "What waits in slots led here until all copies in sync have it."),
		waiting:         desc("publishes_waiting", "Publishes that wait for their commit, or until it is clear who leads their slot."),
		history:         desc("history_bytes", "Memory that the retained entries of all copies here take."),
		withoutHolder: desc("presence_shards_without_holder",
			"Presence shards of which the first or the second holder is not there, as far as this broker knows.", "holder"),
	}
}

// Describe implements [prometheus.Collector].
func (g *gauges) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		g.slots, g.followed, g.inSync, g.underReplicated, g.uncommitted, g.waiting, g.history, g.withoutHolder,
	} {
		to <- d
	}
}

// Collect implements [prometheus.Collector].
func (g *gauges) Collect(to chan<- prometheus.Metric) {
	c := g.places.count()
	send := func(d *prometheus.Desc, n int, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	send(g.slots, c.primaries, "primary")
	send(g.slots, c.backups, "backup")
	send(g.followed, c.followed)
	for i, n := range c.inSync {
		send(g.inSync, n, strconv.Itoa(i+1))
	}
	send(g.underReplicated, c.underReplicated)
	send(g.uncommitted, c.uncommitted)
	send(g.waiting, c.waiting)
	send(g.history, c.history)
	first, second := withoutHolder(g.places.view.Load())
	send(g.withoutHolder, first, "first")
	send(g.withoutHolder, second, "second")
}

// withoutHolder counts the presence shards that once had holders, and of which
// the first, or the second, is not announced.
func withoutHolder(view *membership.View) (first, second int) {
	if view == nil {
		return 0, 0
	}
	for n := range shard.PresenceShard(shard.PresenceShards) {
		h := view.Presence.Holders(n)
		if h.Version == 0 {
			continue
		}
		if _, there := view.Node(h.First); !there {
			first++
		}
		if _, there := view.Node(h.Second); !there {
			second++
		}
	}
	return first, second
}

// counts is the state of all places.
type counts struct {
	primaries, backups   int
	followed             int            // of the backups
	inSync               [maxCopies]int // of slots led here, from 1
	underReplicated      int
	waiting              int // publishes
	uncommitted, history int // bytes
}

func (s *places) count() counts {
	var c counts
	s.each(func(p *place) {
		c.history += p.log.History().Bytes()
		c.waiting += len(p.waiting) + len(p.parked)
		if !p.leads() {
			if slices.Contains(p.row.InSync, s.self) {
				c.backups++
			}
			if p.relays && p.fanOut.Followed() {
				c.followed++
			}
			return
		}
		c.primaries++
		c.inSync[min(max(len(p.row.InSync), 1), maxCopies)-1]++
		c.uncommitted += p.log.Uncommitted()
		if slices.ContainsFunc(p.row.Replicas, func(m string) bool { return !slices.Contains(p.row.InSync, m) }) {
			c.underReplicated++
		}
	})
	return c
}
