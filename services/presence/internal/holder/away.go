package holder

import (
	"slices"
	"strings"
	"time"
)

// membership is that of one session on one channel.
type membership struct {
	record  *record
	channel *channel
}

// isAway reports whether a roster does not show a member any more whose home was
// lost.
func (h *Holder) isAway(r *record, c *channel) bool {
	_, away := h.away[membership{r, c}]
	return away
}

// isLate reports whether a lost session has to leave a channel's roster by now,
// and notes when it has to.
func (h *Holder) isLate(r *record, c *channel, now time.Time) bool {
	if h.cfg.Leave == nil || h.isAway(r, c) {
		return false
	}
	after := h.cfg.Leave(c.name)
	if after <= 0 {
		return false
	}
	at := r.home.lost.Add(after)
	if now.Before(at) {
		h.dueAt(at)
		return false
	}
	return true
}

// leaves reports whether a lost session has to leave a roster by now.
func (h *Holder) leaves(r *record, now time.Time) (leaves bool) {
	for _, sub := range r.subs {
		leaves = h.isLate(r, sub.channel, now) || leaves
	}
	return leaves
}

// withdraw takes lost sessions from those rosters that do not wait for them any
// more. Their records stay as they are.
func (h *Holder) withdraw(lost []*record, now time.Time) {
	slices.SortFunc(lost, func(a, b *record) int { return strings.Compare(a.id, b.id) })
	for _, r := range lost {
		for _, sub := range r.subs {
			if !h.isLate(r, sub.channel, now) {
				continue
			}
			if h.isFirst(r) {
				sub.members.remove(r)
				sub.tell(false, r.member(sub))
			}
			h.away[membership{r, sub.channel}] = struct{}{}
		}
	}
}

// forgive ends that a session is away from a channel, and reports whether it was.
func (h *Holder) forgive(r *record, c *channel) bool {
	m := membership{r, c}
	_, away := h.away[m]
	delete(h.away, m)
	return away
}

// comeBack has rosters show again what a home has reported.
func (h *Holder) comeBack(r *record) {
	if len(h.away) == 0 {
		return
	}
	for _, sub := range r.subs {
		if h.forgive(r, sub.channel) && h.isFirst(r) {
			sub.members.add(r)
			sub.tell(true, r.member(sub))
		}
	}
}
