package presence_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	presencev1 "github.com/comet-push/comet/gen/comet/presence/v1"
	"github.com/comet-push/comet/services/presence"
)

func (s *stage) watchEvents(after string) error {
	s.Helper()
	stream, err := s.query.WatchEvents(s.Context(), &presencev1.WatchEventsRequest{After: after})
	if err == nil {
		_, err = stream.Recv()
	}
	return err
}

// TestEventsWithoutBrokers is asked what nobody can answer, and badly.
func TestEventsWithoutBrokers(t *testing.T) {
	play(t, presence.Config{}, func(s *stage) {
		s.wantError(s.watchEvents(""), codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE)
		for _, after := range []string{"now", "AQ", strings.Repeat("A", 10_000), "\xc3\xa4"} {
			s.wantError(s.watchEvents(after), codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_CURSOR_INVALID)
		}
	})
	play(t, presence.Config{NoEvents: true}, func(s *stage) {
		s.wantError(s.watchEvents(""), codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE)
	})
}

func TestWebhookRefusesNonsense(t *testing.T) {
	secret := []byte("a secret of many bytes")
	for name, hook := range map[string]presence.Webhook{
		"no URL":         {URL: "://", Secrets: secret},
		"no host":        {URL: "https:///a", Secrets: secret},
		"another scheme": {URL: "ftp://a.example", Secrets: secret},
		"no secret":      {URL: "https://a.example"},
		"a short one":    {URL: "https://a.example", Secrets: []byte("short")},
	} {
		_, err := presence.New(presence.Config{Webhook: hook}, presence.Deps{Directory: newStore().Directory()})
		if err == nil || strings.Contains(err.Error(), "many bytes") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
