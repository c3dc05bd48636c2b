package bench

import (
	"fmt"
	"os"
	"testing"
)

// TestMain lets the test binary be the servers that it compares with.
func TestMain(m *testing.M) {
	if name := os.Getenv(childKey); name != "" {
		if err := serveChild(name); err != nil {
			fmt.Fprintln(os.Stderr, name+":", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// once measures once: all figures are those that measure reports.
func once(b *testing.B, measure func()) {
	b.Helper()
	for b.Loop() {
		measure()
	}
	b.ReportMetric(0, "ns/op") // how long it takes says nothing
}
