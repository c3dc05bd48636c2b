package holder

import (
	"time"

	"github.com/comet-push/comet/internal/home"
)

// Ended is a session that is over.
type Ended struct {
	Session, User string
	// Edge is the member that was its home last.
	Edge       string
	Generation home.Generation
	// Reason is the edge's, or one of this package's.
	Reason string
	At     time.Time
	// Channels are those it was on, in order. All but Session, Edge, Generation,
	// Reason and At are missing if it began and ended within one report.
	Channels []string
}

// Reasons for which sessions end here.
const (
	// Lost: nobody claimed it after its home was lost.
	Lost = "lost"
	// Vanished: its home does not name it any more.
	Vanished = "vanished"
)

// Left is a channel that a session left and outlived.
type Left struct {
	Session, User, Edge, Channel string
	Generation                   home.Generation
	// Joined is since when this holder knew it there, At when it heard that it
	// left.
	Joined, At time.Time
}

// tellEnded says that a session is over; channels are those it was on.
func (h *Holder) tellEnded(r *record, g home.Generation, reason string, now time.Time) {
	if h.cfg.Ended == nil {
		return
	}
	e := Ended{Session: r.id, User: r.user, Generation: g, Reason: reason, At: now}
	if r.home != nil {
		e.Edge = r.home.member
	}
	for _, sub := range r.subs {
		e.Channels = append(e.Channels, sub.name)
	}
	h.cfg.Ended(e)
}

// tellLeft says that a session left a channel.
func (h *Holder) tellLeft(r *record, left sub, now time.Time) {
	if h.cfg.Left == nil {
		return
	}
	h.cfg.Left(Left{
		Session: r.id, User: r.user, Edge: r.home.member, Channel: left.name, Generation: r.generation,
		Joined: time.Unix(0, left.since), At: now,
	})
}
