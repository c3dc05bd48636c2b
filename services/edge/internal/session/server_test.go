package session_test

import (
	"maps"
	"slices"

	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"

	"github.com/comet-push/comet/services/edge/internal/session"
)

// enlist has a backend subscribe the client.
func (m *model) enlist(t *rapid.T) {
	names := rapid.SliceOfNDistinct(rapid.SampledFrom(m.names()), 1, 2, rapid.ID[string]).Draw(t, "names")
	if m.readsSince(names...) {
		t.Skip() // who of two wins is not the matter here
	}
	m.order++
	m.orders[m.order] = names
	m.s.Enlist(m.now, m.order, names, &m.out)
	m.flush(t)
}

// names are what may be subscribed to.
func (m *model) names() []string {
	if m.literal {
		return channels()
	}
	return append(channels(), "/a/*", "/a/**", "/**")
}

// readsSince reports whether the client waits for one of these with its history.
func (m *model) readsSince(names ...string) bool {
	for _, r := range m.asked {
		for _, name := range names {
			if _, ok := r.since[name]; ok {
				return true
			}
		}
	}
	return false
}

// enlisting reports whether a backend's subscription waits.
func (m *model) enlisting(name string) bool {
	for _, names := range m.orders {
		if slices.Contains(names, name) {
			return true
		}
	}
	return false
}

// carried checks that an order is answered once, and that it was carried out.
func (m *model) carried(t *rapid.T, c session.Carried) {
	names, open := m.orders[c.Order]
	if !open || c.Err != nil {
		t.Fatalf("order %d is answered %v; open are %v", c.Order, c.Err, m.orders)
	}
	delete(m.orders, c.Order)
	for _, name := range names {
		if _, ok := m.subs[name]; !ok && !m.withdrawn[name] {
			t.Fatalf("order %d is answered, and the client has no %s", c.Order, name)
		}
	}
}

// withdraw has a backend unsubscribe the client.
func (m *model) withdraw(t *rapid.T) {
	var names []string
	for _, name := range append(slices.Sorted(maps.Keys(m.subs)), slices.Sorted(maps.Keys(m.joins))...) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		t.Skip()
	}
	name := rapid.SampledFrom(names).Draw(t, "name")
	if m.readsSince(name) {
		t.Skip()
	}
	m.withdrawn[name] = true
	m.s.Withdraw(m.now, []string{name}, &m.out)
	m.flush(t)
}

// order is a command of transcripts: enlist ORDER CHANNEL..., withdraw CHANNEL...
func (tr *transcript) order(d *datadriven.TestData) {
	var channels []string
	for _, a := range d.CmdArgs {
		channels = append(channels, a.Key)
	}
	if d.Cmd == "withdraw" {
		tr.s.Withdraw(tr.now, channels, &tr.out)
		return
	}
	tr.orders++
	tr.s.Enlist(tr.now, tr.orders, channels, &tr.out)
}
