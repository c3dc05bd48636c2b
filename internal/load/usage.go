package load

import (
	"fmt"
	"runtime"
	"time"
)

const (
	// toolShare is the share of what the machine has left, or of a worker's
	// time, above which the tool measures itself.
	toolShare = 0.8
	// toolCores is what the tool uses at least before that means anything: on a
	// machine that is full, little is all that is left.
	toolCores = 0.1
	// otherShare is the share of the machine above which others disturb.
	otherShare = 0.2
)

// usage is what has been used up to a time.
type usage struct {
	at           time.Duration
	server, self time.Duration
	machine      machine
	busiest      time.Duration
}

// use reads the usage up to now.
func (r *runner) use() (u usage, err error) {
	u.at = r.clock()
	if r.cfg.PID != 0 {
		if u.server, err = serverCPU(r.cfg.PID); err != nil {
			return usage{}, err
		}
	}
	if u.self, err = selfCPU(); err != nil {
		return usage{}, err
	}
	if u.machine, err = machineCPU(); err != nil {
		return usage{}, err
	}
	u.busiest = r.sum().busy
	return u, nil
}

// since is the usage from an earlier one.
func (u usage) since(o usage) usage {
	return usage{
		at: u.at - o.at, server: u.server - o.server, self: u.self - o.self, busiest: u.busiest - o.busiest,
		machine: machine{busy: u.machine.busy - o.machine.busy, all: u.machine.all - o.machine.all},
	}
}

// tool tells what the tool used meanwhile, and warns if that was too much.
func (u usage) tool() (t Tool, warnings []string) {
	seconds := max(u.at.Seconds(), 1e-9)
	t = Tool{
		CPUSeconds: u.self.Seconds(),
		Cores:      u.self.Seconds() / seconds,
		Busiest:    min(1, u.busiest.Seconds()/seconds),
	}
	if t.Busiest > toolShare {
		warnings = append(warnings, fmt.Sprintf("a worker of this tool was busy %.0f %% of the time: the figures are bounds of the tool; "+
			"give it more --workers, on a machine with more than %d processors", 100*t.Busiest, runtime.NumCPU()))
	}
	if u.machine.all == 0 {
		return t, warnings
	}
	// Ticks are coarse: what the tool used is known better than what all did.
	left := u.machine.all - max(0, u.machine.busy-u.self)
	t.OfLeft = min(1, u.self.Seconds()/max(left.Seconds(), 1e-9))
	if t.OfLeft > toolShare && t.Cores > toolCores {
		warnings = append(warnings, fmt.Sprintf("this tool used %.0f %% of what the machine had left: the figures are bounds of the tool; "+
			"load less, or from another machine", 100*t.OfLeft))
	}
	if other := u.machine.busy - u.self - u.server; u.server > 0 && other.Seconds() > otherShare*u.machine.all.Seconds() {
		warnings = append(warnings, fmt.Sprintf("other processes used %.1f of this machine's processors: they disturb the figures", other.Seconds()/seconds))
	}
	return t, warnings
}
