//go:build !race

package comettest_test

import "time"

const churnTime = 24 * time.Hour
