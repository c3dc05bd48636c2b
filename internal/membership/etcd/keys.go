package etcd

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
)

// keys are the names of everything, by the prefix they begin with.
type keys string

func (k keys) all() string      { return string(k) + "/" }
func (k keys) nodes() string    { return string(k) + "/nodes/" }
func (k keys) slots() string    { return string(k) + "/slots/" }
func (k keys) election() string { return string(k) + "/election" }

func (k keys) cluster() string { return string(k) + "/cluster" }

// probe is a key that does not exist.
func (k keys) probe() string { return string(k) + "/probe" }

func (k keys) node(member string) string { return k.nodes() + member }

func (k keys) slot(s shard.Slot) string { return fmt.Sprintf("%s%03d", k.slots(), s) }

// slotOf reads what slot wrote.
func (k keys) slotOf(key string) (shard.Slot, bool) {
	number, ok := strings.CutPrefix(key, k.slots())
	n, err := strconv.ParseUint(number, 10, 16)
	return shard.Slot(n), ok && err == nil && n < shard.Slots
}

// span is a range of keys, end excluded.
type span struct{ from, end string }

// named holds the nodes of a name, whatever their ids.
func (k keys) named(name string) span {
	return span{k.nodes() + name + "@", k.nodes() + name + "A"} // A follows @
}

// others are the two parts of named around a node's own key.
func (k keys) others(n membership.Node) [2]span {
	all, own := k.named(n.Name), k.node(n.Member())
	return [2]span{{all.from, own}, {own + "\x00", all.end}}
}
