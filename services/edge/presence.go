package edge

import (
	"iter"

	"google.golang.org/protobuf/types/known/timestamppb"

	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
)

// presence is the service as the source of reports.
type presence Service

// Sessions implements [report.Source].
func (p *presence) Sessions() iter.Seq[string] {
	return func(yield func(string) bool) {
		for c := range p.registry.all() {
			if !yield(c.session.PublicID()) {
				return
			}
		}
	}
}

// State implements [report.Source].
func (p *presence) State(publicID string) (*edgev1.SessionState, bool) {
	c := p.registry.findPublic(publicID)
	if c == nil {
		return nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session.Ended() != "" {
		return nil, false
	}
	return &edgev1.SessionState{
		User:      c.session.User(),
		Transport: c.session.Transport(),
		Since:     timestamppb.New(p.sessions.Origin.Add(c.since)),
		Channels:  c.session.Channels(),
	}, true
}
