package home

import "slices"

// Do is what a Move wants done.
type Do uint8

// What a move may want.
const (
	// Relay the request to Step.Edge; then NotHome or Unreachable, or it is done.
	Relay Do = iota + 1
	// Locate the session at presence; then Located, Unknown, Over or Failed.
	Locate
	// Claim it there with Step.Generation expected; then Claimed, Stale, Unknown,
	// Over or Failed.
	ClaimIt
	// Take it from Step.Edge for Step.Generation, again and again for a second if
	// there is no answer; then Took, Untaken, Stale or Unreachable.
	Take
	// Restore it in Step.Generation from what was taken; it is done.
	Restore
	// RestoreRecord does so from what Claim answered.
	RestoreRecord
	// Refuse: nobody knows the session.
	Refuse
	// Busy: it cannot be found out now; the client tries again.
	Busy
)

// Step is what to do next.
type Step struct {
	Do Do
	// Edge is whom to ask, or from whom the copy is.
	Edge string
	// Generation is expected (ClaimIt), or the new one.
	Generation Generation
	// Exact says, with Restore, that numbers go on behind the last one.
	Exact bool
}

// patience bounds the steps of a move.
const patience = 16

// Move finds one session for an edge that does not have it. The zero Move is
// none; Find and Adopt begin one.
type Move struct {
	self  string
	hint  string
	here  bool     // the session is to come here, whoever has it
	tried []string // those that do not answer, or do not have it

	unheard bool // presence has not heard of it
	step    Step
	steps   int
}

// Find begins to find a session for a request, at the edge that its id hints
// at, if that can be asked.
func Find(self, hint string, usable func(edge string) bool) Move {
	m := Move{self: self, hint: hint}
	if m.mayAsk(hint, usable) {
		m.to(Step{Do: Relay, Edge: hint})
	} else {
		m.to(Step{Do: Locate})
	}
	return m
}

// Adopt begins to take a session over: its client has settled here, or brings a
// socket.
func Adopt(self, hint string) Move {
	m := Move{self: self, hint: hint, here: true}
	m.to(Step{Do: Locate})
	return m
}

// mayAsk reports whether there is an edge that may be the home, and was not
// asked yet.
func (m *Move) mayAsk(edge string, usable func(edge string) bool) bool {
	return edge != "" && edge != m.self && !slices.Contains(m.tried, edge) && usable(edge)
}

// Unheard reports whether presence has not heard of the session, so that only the
// edge that its id hints at may have it.
func (m *Move) Unheard() bool { return m.unheard }

// Step is what to do now.
func (m *Move) Step() Step { return m.step }

func (m *Move) to(s Step) {
	if m.steps++; m.steps > patience {
		s = Step{Do: Busy}
	}
	m.step = s
}

// NotHome hears that the edge asked is not the home, and perhaps which is.
func (m *Move) NotHome(edge string, usable func(edge string) bool) {
	m.tried = append(m.tried, m.step.Edge)
	switch {
	case m.unheard:
		m.to(Step{Do: Refuse})
	case m.mayAsk(edge, usable):
		m.to(Step{Do: Relay, Edge: edge})
	default:
		m.to(Step{Do: Locate})
	}
}

// Unreachable hears that the edge asked does not answer.
func (m *Move) Unreachable() {
	if m.step.Do == Take {
		m.to(Step{Do: RestoreRecord, Edge: m.step.Edge, Generation: m.step.Generation})
		return
	}
	m.tried = append(m.tried, m.step.Edge)
	if m.unheard {
		m.to(Step{Do: Busy})
		return
	}
	m.here = true // presence will name it again
	m.to(Step{Do: Locate})
}

// Located hears who is the home, and whether it was lost.
func (m *Move) Located(edge string, g Generation, lost bool, usable func(edge string) bool) {
	if m.here || lost || edge == m.self || !usable(edge) {
		m.to(Step{Do: ClaimIt, Edge: edge, Generation: g})
		return
	}
	m.here = slices.Contains(m.tried, edge) // once more, and no more
	m.to(Step{Do: Relay, Edge: edge})
}

// Claimed hears that the session is this edge's, and whose it was.
func (m *Move) Claimed(g Generation, previous string) {
	m.to(Step{Do: Take, Edge: previous, Generation: g})
}

// Superseded hears of a later generation than the one it claimed: it was
// overtaken.
func (m *Move) Superseded(g Generation) {
	if m.step.Do >= Take && m.step.Do <= RestoreRecord && g.After(m.step.Generation) {
		m.Stale()
	}
}

// Stale hears that somebody else claimed meanwhile.
func (m *Move) Stale() {
	m.here = false
	m.to(Step{Do: Locate})
}

// Took hears that the previous home handed over.
func (m *Move) Took(exact bool) {
	m.to(Step{Do: Restore, Edge: m.step.Edge, Generation: m.step.Generation, Exact: exact})
}

// Untaken hears that the previous home has nothing.
func (m *Move) Untaken() {
	m.to(Step{Do: RestoreRecord, Edge: m.step.Edge, Generation: m.step.Generation})
}

// Unknown hears that presence has not heard of the session. It may be so new that
// only the edge that its id hints at has.
func (m *Move) Unknown(usable func(edge string) bool) {
	if m.mayAsk(m.hint, usable) {
		m.unheard = true
		m.to(Step{Do: Relay, Edge: m.hint})
		return
	}
	m.Over()
}

// Over hears that the session is over (S9).
func (m *Move) Over() { m.to(Step{Do: Refuse}) }

// Failed hears that presence cannot say.
func (m *Move) Failed() { m.to(Step{Do: Busy}) }
