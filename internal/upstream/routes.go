package upstream

import (
	"time"

	"github.com/comet-push/comet/internal/backoff"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
)

// route is where a slot's owner is reached. The zero route: nobody owns it.
type route struct {
	row  shard.Row
	addr string // empty: the owner is not, and never was, announced
}

func (r route) known() bool { return r.addr != "" }

// sameLog reports whether a slot that went one way may go on as it is.
func (r route) sameLog(as shard.Row) bool {
	return r.row.Primary == as.Primary && r.row.Term == as.Term && r.row.Base == as.Base
}

// routes is the newest view of the directory, with addresses remembered for as
// long as rows name their members: a broker that cannot reach the store is not
// announced, but still serves. Not safe for concurrent use.
type routes struct {
	table *shard.Table
	addrs map[string]string // by member
}

func (r *routes) update(v membership.View) {
	addrs := make(map[string]string, len(v.Nodes))
	for _, n := range v.Nodes {
		addrs[n.Member()] = n.Addr
	}
	for s := range shard.Slot(shard.Slots) {
		m := v.Table.Row(s).Primary
		if _, announced := addrs[m]; announced {
			continue
		}
		if addr, ok := r.addrs[m]; ok {
			addrs[m] = addr
		}
	}
	r.table, r.addrs = v.Table, addrs
}

func (r *routes) of(s shard.Slot) route {
	row := r.table.Row(s)
	return route{row: row, addr: r.addrs[row.Primary]}
}

// retry spaces out attempts to reach one broker.
func retry(failures int) time.Duration {
	return backoff.Policy{Base: 50 * time.Millisecond, Max: time.Second}.Delay(failures)
}
