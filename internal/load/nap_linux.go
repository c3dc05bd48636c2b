package load

import (
	"time"

	"golang.org/x/sys/unix"
)

// precise is what is left to nap of a wait: timers of the runtime may be late by
// a millisecond when nothing else goes on.
const precise = 1500 * time.Microsecond

func nap(d time.Duration) {
	left := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&left, nil) // whoever waits looks at the clock
}
