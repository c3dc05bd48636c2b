package edge

import (
	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/services/edge/internal/frame"
	"github.com/comet-push/comet/services/edge/internal/hold"
	"github.com/comet-push/comet/services/edge/internal/session"
)

// fetch has the session that a frame names brought here, for WebSockets are bound
// to a home. What comes meanwhile waits in order.
func (k *socket) fetch(id string, messages []bayeux.Message) {
	k.mu.Lock()
	k.fetching = true
	k.waiting = append(k.waiting, messages)
	k.mu.Unlock()
	k.service.arrivals.ask(id, k.browser, true, fetching{k})
}

// keep keeps a frame that came while the socket's session is fetched, or reports
// that it is not.
func (k *socket) keep(messages []bayeux.Message) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.fetching {
		return false
	}
	if len(k.waiting) < k.service.cfg.Requests {
		k.waiting = append(k.waiting, messages)
		return true
	}
	k.ended = true
	k.stream.Cut()
	k.service.cut(hold.Protocol)
	return true
}

// next returns the next frame that waits, and ends the fetching behind the last.
func (k *socket) next() []bayeux.Message {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.waiting) == 0 {
		k.waiting, k.fetching = nil, false
		return nil
	}
	next := k.waiting[0]
	k.waiting = k.waiting[1:]
	return next
}

// fetching is a socket that waits for its session.
type fetching struct{ *socket }

// here implements [visitor].
func (f fetching) here(c *client) {
	for messages := f.next(); messages != nil; messages = f.next() {
		if _, handshake := session.Route(messages); handshake {
			f.take(messages)
			continue
		}
		f.carry(c)
		if !c.receiveOver(f.socket, f.request(messages)) { // it left again
			f.end(closeRestart, "")
			return
		}
	}
}

// elsewhere implements [visitor]: it came there just now, to another socket.
func (f fetching) elsewhere(membership.Node) { f.end(closeRestart, "") }

// unknown implements [visitor].
func (f fetching) unknown() {
	for messages := f.next(); messages != nil; messages = f.next() {
		f.send(frame.Text(f.service.unknown(messages)))
	}
}

// unavailable implements [visitor].
func (f fetching) unavailable() { f.end(closeRestart, "") }
