package load

// window is how many of the newest numbers a sequence knows one by one.
const window = 64

// sequence checks the numbers of a channel as one client receives them: 1, 2, 3
// and so on.
type sequence struct {
	newest uint32
	// seen has bit n set if newest-n arrived.
	seen uint64
	// resumed is set while what comes may have been seen over an earlier
	// connection.
	resumed bool
}

// verdict is what a sequence finds about a number.
type verdict struct {
	// fresh is set for the first arrival.
	fresh bool
	// missed is how many numbers were left out before this one. They count as
	// gaps until they arrive late.
	missed uint32
	// late is set for an arrival behind a higher number.
	late bool
	// repeat is set for what had arrived before on the same connection.
	repeat bool
}

// see takes a number.
func (s *sequence) see(n uint32) verdict {
	if n > s.newest {
		ahead := n - s.newest
		s.newest, s.resumed = n, false
		s.seen = s.seen<<ahead | 1 // a shift of 64 or more leaves nothing
		return verdict{fresh: true, missed: ahead - 1}
	}
	back := s.newest - n
	switch {
	case back < window && s.seen&(1<<back) == 0:
		s.seen |= 1 << back
		return verdict{fresh: true, late: true}
	case s.resumed:
		return verdict{}
	}
	return verdict{repeat: true}
}

// resume says that a new connection continues an earlier one.
func (s *sequence) resume() { s.resumed = true }
