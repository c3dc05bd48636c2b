package edge

import (
	"testing"
	"testing/synctest"

	"github.com/gobwas/ws"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/rpc"
)

// disconnect ends a session as a backend does.
func (w *world) disconnect(clientID string) channelv1.ErrorReason {
	_, err := (&deliverServer{s: w.service}).Disconnect(w.t.Context(),
		&edgev1.DisconnectRequest{Session: publicID(clientID)})
	synctest.Wait()
	return rpc.Reason(err)
}

// TestDisconnect ends sessions whose clients wait for messages: they are told not
// to come back, on whatever they came by.
func TestDisconnect(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		c := w.client().open("/a")
		poll := c.poll(w.t.Context())
		k := w.socket().open("/a")
		k.hold()
		for _, id := range []string{c.clientID, k.clientID} {
			if reason := w.disconnect(id); reason != 0 {
				t.Fatalf("refused: %v", reason)
			}
			if reason := w.disconnect(id); reason != channelv1.ErrorReason_ERROR_REASON_SESSION_UNKNOWN {
				t.Errorf("once more: %v", reason)
			}
		}
		goodbye := poll.events(t)
		reply := poll.answer[len(poll.answer)-1]
		advice, _ := reply["advice"].(map[string]any)
		if len(goodbye) != 1 || goodbye[0]["channel"] != "/meta/disconnect" || advice["reconnect"] != "none" {
			t.Errorf("the waiting connect is answered %v", poll.answer)
		}
		last := k.take()
		if len(last) != 1 || last[0][0]["channel"] != "/meta/disconnect" {
			t.Errorf("the socket got %v", last)
		}
		if code := k.closed(); code != ws.StatusNormalClosure {
			t.Errorf("the socket was closed with %d", code)
		}
		if _, again := c.connect(); again["error"] != "402::session_unknown" {
			t.Errorf("a connect after it is answered %v", again)
		}
		w.broker.publish("/a", "1") // to nobody
		synctest.Wait()
	})
}

// TestDisconnectBetweenConnects ends a session whose client is on its way: its next
// message is answered as that of a session that does not exist.
func TestDisconnectBetweenConnects(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		c := w.client().open("/a")
		if reason := w.disconnect(c.clientID); reason != 0 {
			t.Fatalf("refused: %v", reason)
		}
		_, reply := c.connect()
		advice, _ := reply["advice"].(map[string]any)
		if reply["error"] != "402::session_unknown" || advice["reconnect"] != "handshake" {
			t.Errorf("answered %v", reply)
		}
	})
}
