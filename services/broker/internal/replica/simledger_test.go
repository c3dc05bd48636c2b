package replica

import (
	"fmt"
	"slices"
	"time"

	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
)

// violation is what a validator found.
type violation string

// ledger is what an observer who sees everything knows of one slot. Its methods
// panic with a violation.
type ledger struct {
	now   func() int64
	least int  // members in sync for an acknowledgement
	real  bool // logs are slots

	rows   []shard.Row                 // all there were
	terms  map[uint64]string           // primary by term
	logs   map[[2]uint64]*born         // entries by (offset, term)
	canon  []*incarnation              // oldest first
	moves  []commitment                // of the canonical commit mark
	packed [][]*history.Entry          // pieces of snapshots
	acked  map[string]acknowledgedness // by key
	given  map[uint64]given            // by base
}

// given is a log that was given up.
type given struct {
	set []string
	end uint64 // how far all of the set held it
}

// born is an entry as its primary appended it.
type born struct {
	entry *history.Entry
	prev  uint64 // term of the entry before it, 0 at the base
}

// incarnation is the committed log after one base.
type incarnation struct {
	base    uint64
	entries []*history.Entry
	terms   []uint64 // in which they were committed
	keys    map[string]uint64
	last    map[string]uint64 // by channel
}

type commitment struct {
	time   int64
	offset uint64
}

type acknowledgedness struct{ base, offset uint64 }

func newLedger(now func() int64) *ledger {
	return &ledger{
		now:   now,
		terms: map[uint64]string{},
		logs:  map[[2]uint64]*born{},
		acked: map[string]acknowledgedness{},
		given: map[uint64]given{},
	}
}

func (b *ledger) require(ok bool, format string, args ...any) {
	if !ok {
		panic(violation(fmt.Sprintf(format, args...)))
	}
}

func (b *ledger) clock() time.Time { return time.Unix(0, b.now()) }

func (b *ledger) row() shard.Row {
	if len(b.rows) == 0 {
		return shard.Row{}
	}
	return b.rows[len(b.rows)-1]
}

// wrote is told of every row that etcd takes (R1).
func (b *ledger) wrote(row shard.Row) {
	old := b.row()
	b.require(row.Version > old.Version, "R1: version %d after %d", row.Version, old.Version)
	b.require(row.Term >= old.Term && row.Base >= old.Base, "R1: term %d base %d after %d, %d", row.Term, row.Base, old.Term, old.Base)
	b.require(row.Base == old.Base || row.Term > old.Term, "R1: a new base in term %d", row.Term)
	b.require(slices.Contains(row.InSync, row.Primary), "R7: primary %s is not of the set %v", row.Primary, row.InSync)
	if row.Base == old.Base && row.Term > old.Term {
		b.require(slices.Contains(old.InSync, row.Primary), "R7: primary %s is not of the set before, %v", row.Primary, old.InSync)
	}
	if other, ok := b.terms[row.Term]; ok {
		b.require(other == row.Primary, "R1: %s and %s are primary in term %d", other, row.Primary, row.Term)
	}
	b.terms[row.Term] = row.Primary
	b.rows = append(b.rows, row)
}

// of returns the incarnation of a base, making it.
func (b *ledger) of(base uint64) *incarnation {
	for _, inc := range slices.Backward(b.canon) {
		if inc.base == base {
			return inc
		}
	}
	inc := &incarnation{base: base, keys: map[string]uint64{}, last: map[string]uint64{}}
	b.canon = append(b.canon, inc)
	return inc
}

func (i *incarnation) end() uint64 { return i.base + uint64(len(i.entries)) }

// has reports whether an entry is committed.
func (i *incarnation) has(e *history.Entry) bool {
	return e.Offset > i.base && e.Offset <= i.end() && same(i.entries[e.Offset-i.base-1], e)
}

func (b *ledger) prev(l *simLog) uint64 {
	if len(l.entries) == 0 {
		return 0
	}
	return l.entries[len(l.entries)-1].Term
}

// appended is told of every entry a primary makes (R5).
func (b *ledger) appended(l *simLog, e *history.Entry) {
	at := [2]uint64{e.Offset, e.Term}
	b.require(b.logs[at] == nil, "R5: %s makes a second entry %d of term %d", l.member, e.Offset, e.Term)
	b.logs[at] = &born{e, b.prev(l)}
}

// replicated is told of every entry a backup takes (R5).
func (b *ledger) replicated(l *simLog, e *history.Entry) {
	origin := b.logs[[2]uint64{e.Offset, e.Term}]
	b.require(origin != nil && same(origin.entry, e), "R5: %s takes another entry %d of term %d", l.member, e.Offset, e.Term)
	b.require(origin.prev == b.prev(l), "R5: %s: entry %d of term %d follows term %d, at its primary %d",
		l.member, e.Offset, e.Term, b.prev(l), origin.prev)
}

func (b *ledger) restored(l *simLog, next *image) {
	inc := b.of(next.base)
	for _, e := range next.entries {
		b.require(inc.has(e), "R9: %s restores %d of term %d, which is not committed", l.member, e.Offset, e.Term)
	}
	b.require(next.commit >= l.commit, "R10: %s restores a log up to %d, its commit mark is %d", l.member, next.commit, l.commit)
	for _, e := range l.entries {
		if e.Offset > next.commit {
			b.cut(l, e)
		}
	}
}

// cut is told of every entry that is removed (R8).
func (b *ledger) cut(l *simLog, e *history.Entry) {
	inc := b.of(l.base)
	b.require(!inc.has(e) || inc.terms[e.Offset-inc.base-1] > l.term,
		"R8: %s cuts %d of term %d in term %d, and it is committed", l.member, e.Offset, e.Term, l.term)
}

// reset is told when a log is dropped (R3).
func (b *ledger) reset(l *simLog) {
	row := b.row()
	b.require(l.base == 0 || l.base != row.Base || !slices.Contains(row.InSync, l.member),
		"R3: %s drops its log while it is in the set %v", l.member, row.InSync)
}

// committed is told when a commit mark moves (R6, R10, R13).
func (b *ledger) committed(l *simLog, upto uint64) {
	inc := b.of(l.base)
	b.require(upto <= l.end(), "R6: %s commits %d, its log ends at %d", l.member, upto, l.end())
	for o := l.commit + 1; o <= upto; o++ {
		e := l.at(o)
		if o <= inc.end() {
			b.require(inc.has(e), "R10: %s commits %d of term %d, but %d of term %d was committed before",
				l.member, o, e.Term, o, inc.entries[o-inc.base-1].Term)
			continue
		}
		b.require(o == inc.end()+1, "R6: %s commits %d, nobody has committed %d", l.member, o, inc.end()+1)
		prev := inc.last[e.Channel]
		b.require(!b.real || e.Prev == max(prev, l.base), "R12: %s commits %+v, its channel's last was %d", l.member, e, prev)
		inc.last[e.Channel] = o
		if first, ok := inc.keys[e.Key]; ok {
			b.require(false, "R13: %s is committed at %d and %d", e.Key, first, o)
		}
		inc.keys[e.Key] = o
		inc.entries, inc.terms = append(inc.entries, e), append(inc.terms, l.term)
		b.moves = append(b.moves, commitment{b.now(), o})
	}
}

// learned is told when a backup's commit mark moves (R9).
func (b *ledger) learned(l *simLog, upto uint64) {
	b.require(upto <= b.of(l.base).end(), "R9: %s serves followers with %d, which is not committed", l.member, upto)
}

// holds reports whether a log has everything that is committed after its base.
func (b *ledger) holds(base uint64, i *image) bool {
	inc := b.of(base)
	if inc.end() == base {
		return true
	}
	last := inc.entries[len(inc.entries)-1]
	return i.base == base && uint64(len(i.entries)) >= last.Offset-base && same(i.entries[last.Offset-base-1], last)
}

// leads is told when a member begins to lead (R7). One whose term is over by
// then waits for members that will not answer.
func (b *ledger) leads(l *simLog) {
	if b.row().Term > l.term {
		return
	}
	b.require(b.holds(l.base, &l.image), "R7: %s leads in term %d without all that is committed", l.member, l.term)
}

// serves is told when a member may be read from (R9).
func (b *ledger) serves(l *simLog) {
	if b.row().Term == l.term {
		b.require(l.commit >= b.of(l.base).end(), "R9: %s is read up to %d, though %d is committed", l.member, l.commit, b.of(l.base).end())
	}
}

// acknowledged is told of every publish that is answered (R9, R15).
func (b *ledger) acknowledged(l *simLog, key string, offset uint64) {
	inc := b.of(l.base)
	if row := b.row(); row.Term == l.term {
		b.require(len(row.InSync) >= b.least, "rule 30: %s answers %s with the set %v", l.member, key, row.InSync)
	}
	b.require(offset <= l.commit && inc.keys[key] == offset, "R9: %s answers %s with %d, which is not committed", l.member, key, offset)
	// What all of the set held when it was given up is lost with it, even if the
	// answer comes later; but who was alone in it has stopped before (rule 4).
	given := b.given[l.base]
	b.require(l.base == b.row().Base || offset <= given.end && !slices.Equal(given.set, []string{l.member}),
		"R15: %s answers %s with %d though the slot began anew at %d", l.member, key, offset, b.row().Base)
	b.acked[key] = acknowledgedness{l.base, offset}
}

// fresh is told a time as of which a primary's commit mark is said to be the
// newest (R14).
func (b *ledger) fresh(l *simLog, asOf int64) {
	for _, m := range slices.Backward(b.moves) {
		if m.time <= asOf {
			b.require(m.offset <= l.commit, "R14: %s says that %d was the newest as of %d, but %d was committed at %d",
				l.member, l.commit, asOf, m.offset, m.time)
			return
		}
	}
}
