package load

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Result is what a run found. Names end in their units.
type Result struct {
	Mode       Mode      `json:"mode"`
	Transport  string    `json:"transport"`
	URL        string    `json:"url"`
	At         time.Time `json:"at"`
	Clients    int       `json:"clients"`
	Channels   int       `json:"channels"`
	SizeBytes  int       `json:"sizeBytes"`
	RatePerSec float64   `json:"ratePerSecond,omitempty"`

	Sessions   Sessions    `json:"sessions"`
	Publishing *Publishing `json:"publishing,omitempty"`
	Delivery   *Delivery   `json:"delivery,omitempty"`
	Server     *Server     `json:"server,omitempty"`
	Tool       Tool        `json:"tool"`
	Steps      []Step      `json:"steps,omitempty"`

	// Faults are what clients and publishers ran into, and how often.
	Faults map[string]int `json:"faults,omitempty"`
	// Warnings say what to keep in mind.
	Warnings []string `json:"warnings,omitempty"`
}

// Latency is a distribution.
type Latency struct {
	P50  float64 `json:"p50Milliseconds"`
	P90  float64 `json:"p90Milliseconds"`
	P99  float64 `json:"p99Milliseconds"`
	P999 float64 `json:"p999Milliseconds"`
	Max  float64 `json:"maxMilliseconds"`
}

// Sessions tell of connecting.
type Sessions struct {
	Established int `json:"established"`
	Failed      int `json:"failed"`
	// Retries are attempts that failed before a client was subscribed,
	// Reconnects connections lost afterwards.
	Retries    int     `json:"retries"`
	Reconnects int     `json:"reconnects"`
	Seconds    float64 `json:"seconds"`
	PerSecond  float64 `json:"perSecond"`
	Setup      Latency `json:"setup"`
}

// Publishing tells of messages on their way in.
type Publishing struct {
	Messages  int     `json:"messages"`
	Refused   int     `json:"refused"`
	PerSecond float64 `json:"perSecond"`
	// Behind is the most that a message was sent after it was due.
	Behind   float64 `json:"behindMilliseconds"`
	Accepted Latency `json:"accepted"`
}

// Delivery tells of messages on their way out. What the sequences say counts
// the warm-up too.
type Delivery struct {
	Expected  int64   `json:"expected"`
	Delivered int64   `json:"delivered"`
	Lost      int64   `json:"lost"`
	PerSecond float64 `json:"perSecond"`
	Bytes     float64 `json:"bytesPerDelivery"`
	Latency   Latency `json:"latency"`

	Gaps    int `json:"gaps"`
	Repeats int `json:"repeats"`
	Late    int `json:"late"`
	Strays  int `json:"strays"`
	Resyncs int `json:"resyncs"`
}

// Server is what the server's process used, with all below it.
type Server struct {
	PID        int     `json:"pid"`
	CPUSeconds float64 `json:"cpuSeconds"`
	// One of these, by mode.
	CPUPerMillion      float64 `json:"cpuSecondsPerMillionDeliveries,omitempty"`
	CPUPerSession      float64 `json:"cpuMicrosecondsPerSession,omitempty"`
	CPUPerClientSecond float64 `json:"cpuMicrosecondsPerClientSecond,omitempty"`

	PSSBefore    int64   `json:"pssBytesBefore"`
	PSSAfter     int64   `json:"pssBytesAfter"`
	PSSPerClient float64 `json:"pssBytesPerClient,omitempty"` // of Idle
}

// Tool is what the tool itself used of the machine.
type Tool struct {
	CPUSeconds float64 `json:"cpuSeconds"`
	// Cores is that as a share of a processor.
	Cores float64 `json:"cores"`
	// OfLeft is that as a share of what everything else had left.
	OfLeft float64 `json:"ofLeft,omitempty"`
	// Busiest is the share of time in which the busiest worker did not wait.
	Busiest float64 `json:"busiestWorker"`
}

// Step is one rate that Fanout tried.
type Step struct {
	RatePerSec float64 `json:"ratePerSecond"`
	PerSecond  float64 `json:"deliveriesPerSecond"`
	P99        float64 `json:"p99Milliseconds"`
	Lost       int64   `json:"lost"`
	// Fault says why the rate is too high, empty if it is not.
	Fault string `json:"fault,omitempty"`
}

func latencyOf(h *hdrhistogram.Histogram) Latency {
	ms := func(q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1000 }
	return Latency{P50: ms(50), P90: ms(90), P99: ms(99), P999: ms(99.9), Max: float64(h.Max()) / 1000}
}
