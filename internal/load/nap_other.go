//go:build !linux

package load

import "time"

// precise is what is left to nap of a wait: nothing, timers have to do.
const precise = time.Duration(0)

func nap(time.Duration) {}
