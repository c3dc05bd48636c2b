package conformance

import (
	"errors"

	"github.com/comet-push/comet/internal/membership"
)

// secret: of all who make the first one, or replace it, one succeeds, and all
// read what that wrote.
func (s *suite) secret() {
	const writers = 4
	first := s.store.Open(s.T)
	if text, version, err := first.Secret(s.Context()); err != nil || len(text) > 0 || version != 0 {
		s.Fatalf("secret %q of version %d, %v; want none", text, version, err)
	}
	for round := range 2 {
		_, version, err := first.Secret(s.Context())
		if err != nil {
			s.Fatal(err)
		}
		errs := make([]error, writers)
		parallel(writers, func(i int) {
			errs[i] = s.store.Open(s.T).SetSecret(s.Context(), []byte{byte(round), byte(i)}, version)
		})
		won := -1
		for i, err := range errs {
			switch {
			case err == nil && won < 0:
				won = i
			case !errors.Is(err, membership.ErrConflict):
				s.Errorf("writer %d: %v, want a conflict", i, err)
			}
		}
		text, after, err := first.Secret(s.Context())
		if err != nil || len(text) != 2 || int(text[0]) != round || int(text[1]) != won || after <= version {
			s.Errorf("secret %v of version %d after %d, %v; writer %d has won", text, after, version, err, won)
		}
	}
	first.Disconnect(true)
	if _, _, err := first.Secret(s.Context()); err == nil {
		s.Error("the secret was read while cut off")
	}
}
