package test

import (
	"flag"
	"os"
	"testing"
)

// TestMain lets more tests run at once than there are cores: those that may run
// beside others mostly wait.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
