package load

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// userHZ is how many ticks of /proc a second has, on every system of today.
const userHZ = 100

// process is one line of /proc/<pid>/stat.
type process struct {
	parent int
	cpu    time.Duration // its own, and of children that ended
}

// readStat reads the text of a /proc/<pid>/stat. The name in it may hold spaces
// and parentheses.
func readStat(text []byte) (process, error) {
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	const parent, utime, cstime = 1, 11, 14 // counted from the state
	if len(fields) <= cstime {
		return process{}, errors.New("the line is too short")
	}
	up, err := strconv.Atoi(string(fields[parent]))
	if err != nil {
		return process{}, fmt.Errorf("reading the parent: %w", err)
	}
	p := process{parent: up}
	for _, field := range fields[utime : cstime+1] {
		ticks, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return process{}, fmt.Errorf("reading CPU time: %w", err)
		}
		p.cpu += time.Duration(ticks) * time.Second / userHZ
	}
	return p, nil
}

// readPSS finds the proportional set size in the text of a smaps_rollup, in
// bytes.
func readPSS(text []byte) (int64, error) {
	for line := range bytes.Lines(text) {
		if value, ok := bytes.CutPrefix(line, []byte("Pss:")); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(string(bytes.TrimSpace(value)), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("there is no line Pss")
}

// machine is the first line of /proc/stat: what all processors did.
type machine struct {
	busy, all time.Duration
}

func readMachine(text []byte) (machine, error) {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	fields := bytes.Fields(line)
	const idle, iowait, guest = 4, 5, 9 // guests' time is in the users', too
	if len(fields) < guest || string(fields[0]) != "cpu" {
		return machine{}, errors.New("the first line is not cpu")
	}
	var m machine
	for i, field := range fields[1:guest] {
		ticks, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return machine{}, fmt.Errorf("reading ticks: %w", err)
		}
		spent := time.Duration(ticks) * time.Second / userHZ
		m.all += spent
		if i+1 != idle && i+1 != iowait {
			m.busy += spent
		}
	}
	return m, nil
}

// tree returns a process and all below it.
func tree(pid int) (map[int]process, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	all := make(map[int]process, len(paths))
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		p, err := readStat(text)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", path, err)
		}
		number, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return nil, fmt.Errorf("reading the name %s: %w", path, err)
		}
		all[number] = p
	}
	root, ok := all[pid]
	if !ok {
		return nil, fmt.Errorf("there is no process %d: give the server's with --pid, as pgrep comet prints it", pid)
	}
	return descend(all, pid, root), nil
}

// descend picks a process and those below it.
func descend(all map[int]process, pid int, root process) map[int]process {
	family := map[int]process{pid: root}
	for grown := true; grown; {
		grown = false
		for number, p := range all {
			_, in := family[number]
			if _, up := family[p.parent]; up && !in {
				family[number] = p
				grown = true
			}
		}
	}
	return family
}

// serverCPU is what a process and all below it have used.
func serverCPU(pid int) (time.Duration, error) {
	family, err := tree(pid)
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, p := range family {
		sum += p.cpu
	}
	return sum, nil
}

// serverPSS is the memory of a process and all below it, pages that they share
// counted once, in bytes.
func serverPSS(pid int) (int64, error) {
	family, err := tree(pid)
	if err != nil {
		return 0, err
	}
	var sum int64
	for number := range family {
		path := fmt.Sprintf("/proc/%d/smaps_rollup", number)
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrPermission) {
			return 0, fmt.Errorf("reading the server's memory: %w: run as the user that the server runs as", err)
		}
		if err != nil {
			if number == pid {
				return 0, fmt.Errorf("reading the server's memory: %w", err)
			}
			continue // it has ended
		}
		pss, err := readPSS(text)
		if err != nil {
			return 0, fmt.Errorf("reading %s: %w", path, err)
		}
		sum += pss
	}
	return sum, nil
}

// machineCPU is what the processors of the machine have done.
func machineCPU() (machine, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return machine{}, fmt.Errorf("reading the machine's CPU time: %w", err)
	}
	return readMachine(text)
}

// openFiles raises the bound of open files as far as needed.
func openFiles(need int) error {
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
		return fmt.Errorf("reading the bound of open files: %w", err)
	}
	if now.Cur >= uint64(need) {
		return nil
	}
	if now.Max < uint64(need) {
		return fmt.Errorf("%d open files are needed, but no more than %d are allowed: "+
			"raise the bound (as root: ulimit -n %d), or take fewer --clients", need, now.Max, need)
	}
	now.Cur = uint64(need)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
		return fmt.Errorf("raising the bound of open files to %d: %w: try ulimit -n %d before", need, err, need)
	}
	return nil
}
