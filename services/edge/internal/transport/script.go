package transport

import (
	"net/http"
	"net/url"

	"github.com/comet-push/comet/bayeux"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/services/edge/internal/hold"
	"github.com/comet-push/comet/services/edge/internal/web"
)

// script serves a GET: messages in the address, to be answered by a script.
func (h *Handler) script(w http.ResponseWriter, r *http.Request) {
	messages, callback, p := h.scriptMessages(r)
	if p != nil {
		h.refuse(w, p)
		return
	}
	h.receive(w, r, Request{
		Messages: messages, Body: []byte(r.URL.RawQuery), ConnectionType: bayeux.CallbackPolling,
	}, &scriptReplier{h, callback})
}

func (h *Handler) scriptMessages(r *http.Request) ([]bayeux.Message, string, *web.Problem) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	params := query["message"]
	names := query["jsonp"]
	switch {
	case err != nil:
		return nil, "", invalid("the query can not be read: " + err.Error())
	case len(params) == 0:
		return nil, "", bringsNone()
	case !h.jsonp:
		return nil, "", web.NewProblem(http.StatusForbidden, channelv1.ErrorReason_ERROR_REASON_TRANSPORT_DISABLED,
			"callback-polling is switched off; use another transport, or switch it on (--edge.jsonp)")
	case !h.origins.AllowScript(r):
		return nil, "", originDenied()
	case len(names) > 1 || len(names) == 1 && !web.ValidCallback(names[0]):
		return nil, "", invalid("jsonp is one name of a function: JavaScript identifiers joined by dots, at most 64 bytes")
	}
	callback := web.DefaultCallback
	if len(names) == 1 {
		callback = names[0]
	}
	messages, err := bayeux.DecodeParams(params, h.limits)
	if err != nil {
		return nil, "", decodeProblem(err)
	}
	if len(messages) == 0 {
		return nil, "", noMessage()
	}
	return messages, callback, nil
}

// scriptReplier makes answers scripts. A script tag sees of any other status
// only that it failed.
type scriptReplier struct {
	*Handler

	callback string
}

// Reply implements [hold.Replier].
func (s *scriptReplier) Reply(a hold.Answer) hold.Reply {
	reply := s.Handler.Reply(a)
	if a.Status == http.StatusOK {
		reply.Type, reply.Header = web.ScriptType, web.ScriptHeader()
		reply.Body = web.AppendScript(nil, s.callback, a.Body)
	}
	return reply
}

func bringsNone() *web.Problem {
	return invalid("the request brings no messages; Bayeux clients POST them, open a WebSocket, " +
		"or have them in the parameter message of a script's address")
}

func invalid(detail string) *web.Problem {
	return web.NewProblem(http.StatusBadRequest, channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID, detail)
}
