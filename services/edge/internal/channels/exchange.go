package channels

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/comet-push/comet/services/edge/internal/hold"
	"github.com/comet-push/comet/services/edge/internal/web"
)

// Exchange is a request that gets one answer: of a reader that polls, or of a
// publisher. It is answered once, by Batch, Published alone, or Refuse.
type Exchange struct {
	*hold.Exchange

	h         *Handler // static, as are the next four
	transport Transport
	callback  string
	public    bool
	known     string // If-None-Match

	published []byte // members of the answer in front of a batch
	cursor    string
	problem   *web.Problem
}

func (h *Handler) exchange(req *Request, r *http.Request) *Exchange {
	return &Exchange{
		Exchange: hold.New(h.cfg.Number()), h: h,
		transport: req.Transport, callback: req.Callback, public: req.Public,
		known: strings.Join(r.Header.Values("If-None-Match"), ","),
	}
}

// Published says where a message stands that was published, and answers with
// that unless a batch is to follow.
func (x *Exchange) Published(position uint64, duplicate, follows bool) {
	b := strconv.AppendUint([]byte(`{"position":`), position, 10)
	b = strconv.AppendBool(append(b, `,"duplicate":`...), duplicate)
	if follows {
		b = append(b, ',')
		x.published = b
		return
	}
	b = append(b, '}')
	x.Answer(hold.Answer{Status: http.StatusOK, Body: b})
}

// Batch answers with a batch, an object that is not empty, which goes on at the
// cursor.
func (x *Exchange) Batch(object []byte, cursor string) {
	x.cursor = cursor
	if len(x.published) > 0 {
		object = append(x.published, object[1:]...)
	}
	x.Answer(hold.Answer{Status: http.StatusOK, Body: object})
}

// Refuse answers with a problem.
func (x *Exchange) Refuse(p *web.Problem) {
	x.problem = p
	x.Answer(hold.Answer{Status: p.Status})
}

// Reply implements [hold.Replier].
func (x *Exchange) Reply(a hold.Answer) hold.Reply {
	reply := hold.Reply{Status: a.Status, Type: jsonType, Body: a.Body, Close: x.h.cfg.Draining()}
	switch {
	case a.Status != http.StatusOK:
		p := x.problem
		if p == nil {
			p = web.StatusProblem(a.Status)
		}
		x.h.cfg.Refused(p.Reason)
		reply.Type = web.ProblemType
		reply.Header, reply.Body = p.Encode()
	case x.transport == JSONP:
		reply.Type, reply.Header = web.ScriptType, web.ScriptHeader()
		reply.Body = web.AppendScript(nil, x.callback, a.Body)
	case x.transport == Poll:
		x.revalidate(&reply)
	}
	return reply
}

// revalidate lets a poll be kept, and leaves out what the client knows.
func (x *Exchange) revalidate(reply *hold.Reply) {
	tag := `"` + x.cursor + `"`
	reply.Header = http.Header{"Etag": {tag}, "Cache-Control": {pollPolicy(x.public)}}
	for known := range strings.SplitSeq(x.known, ",") {
		known = strings.TrimPrefix(strings.TrimSpace(known), "W/")
		if known == tag || known == "*" {
			reply.Status, reply.Body = http.StatusNotModified, nil
		}
	}
}
