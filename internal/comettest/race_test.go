//go:build race

package comettest_test

import "time"

// churnTime is what there is time for: with the race detector a cluster that
// rests takes more than ten times as long.
const churnTime = 3 * time.Hour
