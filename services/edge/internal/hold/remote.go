package hold

// remote is a holder whose client is connected to another server.
type remote func()

func (r remote) wake() { r() }

func (remote) spares() *spares { return nil }

// Remote has an exchange held by who can reach its client through another
// server. ready is called once there is an answer, maybe at once, under a lock of
// the exchange: it must not block, nor call the exchange. Over has to follow.
func (e *Exchange) Remote(ready func()) { e.hold(remote(ready)) }

// Answered returns the answer, if it has come.
func (e *Exchange) Answered() (Answer, bool) { return e.taken() }

// Over says how an exchange ended that is held by Remote: its answer was written
// to the client's connection, or it was lost.
func (e *Exchange) Over(written bool) { e.over(written) }
