package session

import "time"

// Socket is the WebSocket that events go to, 0 if they go out with connects.
func (s *Session) Socket() uint64 { return s.socket }

// Unbind says that a socket is gone. A connect that was held on it is lost, and
// so are the answers that its frames await.
func (s *Session) Unbind(now time.Time, socket uint64, out *Effects) {
	if s.ended != "" || s.socket != socket {
		return
	}
	s.socket, s.blocked = 0, false
	s.release(now, out)
}

// Blocked says that a socket is full: events wait in the session until
// Writable.
func (s *Session) Blocked(_ time.Time, socket uint64) {
	s.blocked = s.blocked || s.socket == socket && socket != 0
}

// Writable says that nothing waits on a socket any more.
func (s *Session) Writable(now time.Time, socket uint64, out *Effects) {
	if s.ended != "" || s.socket != socket {
		return
	}
	s.blocked = false
	s.release(now, out)
}
