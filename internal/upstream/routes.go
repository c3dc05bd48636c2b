package upstream

import (
	"time"

	"github.com/comet-push/comet/internal/backoff"
	"github.com/comet-push/comet/internal/shard"
)

// sameLog reports whether a slot that went by one row may go on as it is under
// another.
func sameLog(a, b shard.Row) bool {
	return a.Primary == b.Primary && a.Term == b.Term && a.Base == b.Base
}

// retry spaces out attempts to reach one broker.
func retry(failures int) time.Duration {
	return backoff.Policy{Base: 50 * time.Millisecond, Max: time.Second}.Delay(failures)
}
