package channels

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/services/edge/internal/web"
)

func refusal(status int, reason channelv1.ErrorReason, format string, args ...any) *web.Problem {
	return web.NewProblem(status, reason, fmt.Sprintf(format, args...))
}

func badChannel(format string, args ...any) *web.Problem {
	return refusal(http.StatusBadRequest, channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID, format, args...)
}

func badParameter(format string, args ...any) *web.Problem {
	return refusal(http.StatusBadRequest, channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID, format, args...)
}

// Denied is the problem of a channel that is not for this caller.
func Denied(reason channelv1.ErrorReason, channel, detail string) *web.Problem {
	p := web.NewProblem(http.StatusForbidden, reason, detail)
	p.Channel = channel
	return p
}

// shorten quotes what a client wrote for a detail.
func shorten(text string) string {
	const shown = 32
	if len(text) > shown {
		text = text[:shown] + "…"
	}
	return strconv.Quote(text)
}

// suggestion is what to say to a name that is not one of the known: the name
// that was meant, if one is near, else all of them.
func suggestion(name string, known []string) string {
	if meant := nearest(name, known); meant != "" {
		return "did you mean " + meant + "?"
	}
	return "choose from " + strings.Join(known, ", ")
}

// nearest returns the name that takes the fewest edits to arrive at, or nothing
// if that is more than one edit in three letters.
func nearest(name string, known []string) (best string) {
	const longest = 64 // of what is compared
	name = name[:min(len(name), longest)]
	least := longest
	for _, k := range known {
		d, near := distance(name, k), (max(len(name), len(k))+2)/3
		if d <= near && d < least {
			best, least = k, d
		}
	}
	return best
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substituted := diagonal
			if a[i] != b[j] {
				substituted++
			}
			diagonal = row[j+1]
			row[j+1] = min(substituted, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
