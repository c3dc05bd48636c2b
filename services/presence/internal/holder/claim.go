package holder

import (
	"fmt"
	"time"

	"github.com/comet-push/comet/internal/home"
)

// Located is where a session is.
type Located struct {
	Home       string
	Generation home.Generation
	// Lost says that whoever needs it claims it.
	Lost bool
}

// StaleError says that a claim expected another generation, and what stands.
type StaleError struct{ Located }

func (e *StaleError) Error() string {
	return fmt.Sprintf("the session is at %s in generation %v", e.Home, e.Generation)
}

// Claimed is a session that was claimed.
type Claimed struct {
	// Generation is the claimer's.
	Generation home.Generation
	// Previous is the last home that was installed: it is asked to hand over.
	Previous string
	// State is what that one told, in its generation, and Vector with it.
	State  State
	Vector []uint64
}

// Locate says where a session is.
func (h *Holder) Locate(id string) (Located, error) {
	r, err := h.lookup(id)
	if err != nil {
		return Located{}, err
	}
	return r.located(), nil
}

func (r *record) located() Located {
	return Located{Home: r.home.member, Generation: r.generation, Lost: !r.home.lost.IsZero()}
}

// lookup returns a record that may be spoken of.
func (h *Holder) lookup(id string) (*record, error) {
	r, s := h.find(id)
	switch {
	case !h.first.has(s):
		return nil, ErrNotFirst
	case !h.ready(s):
		return nil, ErrNotReady
	case r == nil:
		if _, over := h.tombs[id]; over {
			return nil, ErrOver
		}
		return nil, ErrUnknown
	case r.generation.Epoch > h.parts[s].Epoch: // there is a newer row
		return nil, ErrNotFirst
	}
	return r, nil
}

// Claim makes an edge the home of a session.
func (h *Holder) Claim(id, member string, expected home.Generation, now time.Time) (Claimed, error) {
	r, err := h.lookup(id)
	if err != nil {
		return Claimed{}, err
	}
	claimer := h.edges[member]
	switch {
	case claimer == nil:
		return Claimed{}, ErrAbsent
	case r.generation != expected:
		return Claimed{}, &StaleError{r.located()}
	}
	c := &claim{at: now, previous: r.home.member, generation: r.generation, vector: r.home.vector}
	if r.claim != nil { // nobody has it from that claim, as far as we know
		c.previous, c.generation, c.vector = r.claim.previous, r.claim.generation, r.claim.vector
	}
	_, s := h.find(id)
	before := r.home
	r.home, r.claim, r.generation = claimer, c, r.generation.Next(h.parts[s].Epoch)
	if !r.listed {
		h.claims, r.listed = append(h.claims, r), true
	}
	if before != claimer {
		before.tell(Superseded{Session: id, Generation: r.generation, Home: member})
	}
	return Claimed{Generation: r.generation, Previous: c.previous, State: r.state(c.generation), Vector: c.vector}, nil
}
