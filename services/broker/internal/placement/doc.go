// Package placement decides who should hold which slot, and who leads it when
// its primary is gone.
//
// A slot's row is written by two: the controller, with what is planned here,
// and the slot's primary. The planner writes
//
//   - the first row of a slot: a primary, alone in sync, and who should follow;
//   - Replicas, the members that should hold the slot, the one first that should
//     be its primary; this is a wish, and safety does not rest on it;
//   - a promotion, when the primary is not announced;
//   - a new incarnation, when nobody in sync can be had.
//
// The primary does the rest, so that nothing passes through fewer copies than
// there were: it adds who is desired and has caught up; it hands over to
// Replicas[0] once that is in sync; and it removes who is in sync but not
// desired once everybody desired is in sync.
//
//  1. A slot whose primary is announced gets no other primary from here.
//  2. A promoted member is in InSync and announced. Term rises by one; Base
//     stays. Who leaves InSync with it is not announced, and the write applies
//     only if that is still so. First comes who does not drain, then who is
//     first in Replicas.
//  3. A new incarnation (next term, higher base, one member in sync) begins only
//     while nobody in InSync is announced, and the write applies only if that
//     is still so; and only if
//     a. each member of InSync was replaced by another log-id under its name, or
//     b. each was replaced or is known to have lost its log (View.Lost), or
//     c. all but one were, and the row's UncleanAfter has passed since this
//     planner saw that one absent: alone it stops itself at half of that time,
//     and with the others it can commit nothing; two who are silent here may be
//     acknowledging each other, or
//     d. an operator says so (Orders.Recover).
//  4. While View.Cautious nobody counts as absent but who was replaced: 3b and
//     3c do not apply, absences begin anew when it ends, and no absent member
//     is removed or given up. When more than half of the brokers vanished within
//     UncleanAfter (30 s where that is never), 3b waits that long as well.
//  5. Config.UncleanAfter is written with a term and left alone until the next,
//     so whoever leads a slot has read by what it is judged.
//  6. Desired are min(Config.Replicas, brokers that do not drain) members, in as
//     many zones as that allows. Brokers without a zone are in one of their own.
//     Where only draining brokers are left, the slots stay with them.
//  7. A desired member that drains, was replaced, or has been absent for
//     RepairAfter gives its place to another: at once to its successor of the
//     same name, else to a broker of a zone not yet there, in sync already if
//     possible, least loaded. Slots led by a draining broker are handed to
//     somebody in sync at once, or as soon as one of those desired is; copies
//     follow at the pace.
//  8. At most Copies slots are being copied on our account at a time, four times
//     as many where nobody in sync stays; the first rows and new incarnations,
//     whose logs are empty, do not count.
//  9. Slots are moved for balance (other zones first, then copies, then
//     primaries) only while nothing is to be repaired, at most Burst per Every,
//     only slots that are as desired, none again within Rest. Each chain of
//     moves is a shortest one that takes one from a broker with at least two
//     more and gives it to one with fewer; what zones forbid is not done.
//  10. So when views stop changing, following the plans comes to an end: numbers
//     of primaries per broker then differ by one at most, those of copies by one
//     but where zones forbid it, every slot is as fact 6 says, and further plans
//     are empty.
//  11. A plan names a slot once. A slot about to be handed over is left alone.
//  12. Where zones are even, a broker that comes or goes causes at most 1/32
//     more copies than it holds slots, exactly as many when it comes; and at
//     most 9/8 as many hand-overs as it leads slots when it comes, twice as
//     many when it drains, as many when it dies.
//
// The planner is pure: views and time come in. What it remembers (who has been
// absent since when, what it began) a new leader may do without.
package placement
