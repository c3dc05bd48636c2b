// Package placement decides which broker owns which slot.
//
//  1. A slot gets a new primary only because it has none, because its primary's
//     log is known to be lost, because its primary is draining, or for balance.
//     A primary that is merely not announced keeps its slots.
//  2. A change for a lost primary names it as absent: it applies only if the
//     primary has not come back. Every change raises the term and starts a new
//     log at a higher base.
//  3. Slots without an owner, and those of draining brokers, are placed at once;
//     moves for balance are paced, and happen only while some broker owns at
//     least two slots more than another: fewest moves.
//  4. Nothing is given to a draining broker. If no other is there, its slots
//     stay.
//  5. If views stop changing, following the plans leads to a table in which all
//     slots of live brokers are spread evenly to within one, and then to empty
//     plans.
//
// The planner is pure: views and time come in. Only the pacing is remembered,
// so a new leader may begin with a fresh planner.
package placement
