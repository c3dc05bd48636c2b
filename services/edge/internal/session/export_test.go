package session

// Logged is how many events are kept, sent or not.
func (s *Session) Logged() int { return s.fresh.events + s.sent.events }
