package load

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// WriteTable writes the result for people.
func (r *Result) WriteTable(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s over %s\n", r.Mode, r.Transport)
	tabs := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(name, format string, values ...any) {
		_, _ = fmt.Fprintf(tabs, "  %s\t"+format+"\n", append([]any{name}, values...)...) // a builder takes everything
	}
	for _, s := range r.Steps {
		verdict := "good"
		if s.Fault != "" {
			verdict = "too much: " + s.Fault
		}
		row("step", "%.4g messages/s, %.0f deliveries/s, p99 %v: %s", s.RatePerSec, s.PerSecond, span(s.P99), verdict)
	}
	r.sessions(row)
	r.messages(row)
	r.processes(row)
	for _, text := range slices.Sorted(maps.Keys(r.Faults)) {
		row("fault", "%s (%d times)", text, r.Faults[text])
	}
	for _, text := range r.Warnings {
		row("warning", "%s", text)
	}
	_ = tabs.Flush() // into the builder
	if _, err := io.WriteString(out, b.String()); err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	return nil
}

// rower writes a row of the table.
type rower func(name, format string, values ...any)

func (r *Result) sessions(row rower) {
	s := r.Sessions
	row("sessions", "%d of %d in %.2f s: %.0f per second", s.Established, r.Clients, s.Seconds, s.PerSecond)
	row("  setup", "%s", s.Setup)
	if s.Failed+s.Retries+s.Reconnects > 0 {
		row("  trouble", "%d failed, %d retries, %d reconnects", s.Failed, s.Retries, s.Reconnects)
	}
}

func (r *Result) messages(row rower) {
	p, d := r.Publishing, r.Delivery
	if p == nil || d == nil {
		return
	}
	row("published", "%d of %d bytes to %d channels, %.4g per second, %d refused", p.Messages, r.SizeBytes, r.Channels, p.PerSecond, p.Refused)
	row("  accepted", "%s; sent up to %v late", p.Accepted, span(p.Behind))
	row("delivered", "%d of %d, %.0f per second, %.0f bytes each", d.Delivered, d.Expected, d.PerSecond, d.Bytes)
	row("  lost", "%d; %d gaps, %d repeats, %d late, %d strays, %d resyncs", d.Lost, d.Gaps, d.Repeats, d.Late, d.Strays, d.Resyncs)
	row("  latency", "%s", d.Latency)
}

func (r *Result) processes(row rower) {
	if s := r.Server; s != nil {
		row("server CPU", "%.2f s", s.CPUSeconds)
		switch {
		case s.CPUPerMillion > 0:
			row("", "%.3f s per million deliveries", s.CPUPerMillion)
		case s.CPUPerSession > 0:
			row("", "%.0f µs per session", s.CPUPerSession)
		case s.CPUPerClientSecond > 0:
			row("", "%.2f µs per client and second", s.CPUPerClientSecond)
		}
		row("server memory", "%.1f MiB PSS, from %.1f", mib(s.PSSAfter), mib(s.PSSBefore))
		if r.Mode == Idle {
			row("", "%.2f KiB per client", s.PSSPerClient/1024)
		}
	} else {
		row("server", "not measured: give its process with --pid")
	}
	t := r.Tool
	row("this tool", "%.2f s of CPU, %.0f %% of a processor, %.0f %% of what was left; busiest worker %.0f %%",
		t.CPUSeconds, 100*t.Cores, 100*t.OfLeft, 100*t.Busiest)
}

func (l Latency) String() string {
	return fmt.Sprintf("p50 %v, p90 %v, p99 %v, p99.9 %v, max %v", span(l.P50), span(l.P90), span(l.P99), span(l.P999), span(l.Max))
}

// span is a time in milliseconds, to three digits or so.
func span(ms float64) time.Duration {
	d := time.Duration(ms * float64(time.Millisecond))
	switch {
	case d > 10*time.Second:
		return d.Round(100 * time.Millisecond)
	case d > 100*time.Millisecond:
		return d.Round(time.Millisecond)
	case d > time.Millisecond:
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(time.Microsecond)
}

func mib(b int64) float64 { return float64(b) / (1 << 20) }
