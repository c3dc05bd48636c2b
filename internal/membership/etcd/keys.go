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
func (k keys) presence() string { return string(k) + "/presence/" }
func (k keys) election() string { return string(k) + "/election" }

func (k keys) cluster() string { return string(k) + "/cluster" }

func (k keys) secret() string { return string(k) + "/secret" }

// probe is a key that does not exist.
func (k keys) probe() string { return string(k) + "/probe" }

func (k keys) node(member string) string { return k.nodes() + member }

func (k keys) slot(s shard.Slot) string { return numbered(k.slots(), uint32(s)) }

// slotOf reads what slot wrote.
func (k keys) slotOf(key string) (shard.Slot, bool) {
	n, ok := numberOf(k.slots(), key, shard.Slots)
	return shard.Slot(n), ok
}

func (k keys) holders(s shard.PresenceShard) string { return numbered(k.presence(), uint32(s)) }

// shardOf reads what holders wrote.
func (k keys) shardOf(key string) (shard.PresenceShard, bool) {
	n, ok := numberOf(k.presence(), key, shard.PresenceShards)
	return shard.PresenceShard(n), ok
}

func numbered(folder string, n uint32) string { return fmt.Sprintf("%s%03d", folder, n) }

// numberOf reads what numbered wrote of a number below end.
func numberOf(folder, key string, end uint64) (uint64, bool) {
	number, ok := strings.CutPrefix(key, folder)
	n, err := strconv.ParseUint(number, 10, 16)
	return n, ok && err == nil && n < end
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
