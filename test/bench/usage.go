package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/comet-push/comet/test/internal/cluster"
)

// cpu is how much processor time a process and its children have used.
func cpu(pid int) (time.Duration, error) {
	family, err := family(pid)
	if err != nil {
		return 0, err
	}
	ticks := int64(0)
	for _, pid := range family {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:]))
		for _, field := range fields[11:13] { // utime, stime
			n, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return 0, err
			}
			ticks += n
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil // Linux counts 100 a second
}

// pss is the memory of a process, pages it shares counted in part, in bytes.
func pss(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "Pss:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("smaps_rollup has no line Pss")
}

// family is a process and its children.
func family(pid int) ([]int, error) {
	family := []int{pid}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil, err
	}
	for field := range strings.FieldsSeq(string(text)) {
		child, err := strconv.Atoi(field)
		if err != nil {
			return nil, err
		}
		family = append(family, child)
	}
	return family, nil
}

// cpuSpentBy is how much processor time processes have used.
func cpuSpentBy(b *testing.B, processes []*cluster.Process) time.Duration {
	b.Helper()
	var pids []int
	for _, p := range processes {
		pids = append(pids, p.Pid())
	}
	sum, err := cpuOf(pids)
	if err != nil {
		b.Fatal(err)
	}
	return sum
}

// milliseconds is a time as metrics have it.
func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }
