package session

import "unsafe"

// Logged is how many events are kept, sent or not.
func (s *Session) Logged() int { return int(s.fresh.events + s.sent.events) }

// Size is the size of the struct.
const Size = unsafe.Sizeof(Session{})
