package memory_test

import (
	"testing"
	"testing/synctest"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/membership/conformance"
	"github.com/comet-push/comet/internal/membership/memory"
)

func TestConformance(t *testing.T) {
	pace := conformance.Pace{Lease: membership.DefaultLease}
	conformance.Run(t, pace, synctest.Test, func(*testing.T) conformance.Store {
		return store{memory.NewStore(pace.Lease)}
	})
}

type store struct{ *memory.Store }

func (s store) Open(*testing.T) conformance.Handle { return s.Directory() }

func (s store) Disconnect(_ *testing.T, down bool) { s.Store.Disconnect(down) }

func (s store) Expire(_ *testing.T, n membership.Node) { s.Store.Expire(n.Name) }
