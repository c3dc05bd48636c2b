//go:build !linux

package load

import (
	"errors"
	"time"
)

// errLinux is what measuring a server needs.
var errLinux = errors.New("--pid needs Linux, whose /proc is read")

type machine struct {
	busy, all time.Duration
}

func serverCPU(int) (time.Duration, error) { return 0, errLinux }

func serverPSS(int) (int64, error) { return 0, errLinux }

// machineCPU knows nothing here: all is 0.
func machineCPU() (machine, error) { return machine{}, nil }

// openFiles has nothing to do: the runtime raises the bound when a program
// starts, and opening one too many says so.
func openFiles(int) error { return nil }
