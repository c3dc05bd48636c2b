package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/comet-push/comet/test/internal/cluster"
)

// startComet starts the released binary, everything in one process.
func startComet(b *testing.B, args ...string) *cluster.Process {
	b.Helper()
	p := cluster.New(b, "comet", "all", append([]string{"--config=" + cluster.Config(b, cluster.Open)}, args...)...)
	p.Binary = cluster.Released(b)
	p.Start(b)
	p.Ready(b, 20*time.Second)
	return p
}

// streams is a Comet with clients of a plain transport.
func streams(p *cluster.Process, transport string) *peer {
	rest := &poster{addr: p.Internal}
	return &peer{
		name: "Comet " + transport, pid: p.Pid(), addr: p.HTTP, ready: []byte(`"type":"open"`),
		ask: func(channel string) string {
			target := "/channels/" + channel + "?since=latest&transport=" + transport
			if transport == "ws" {
				return upgrade(p.HTTP, target)
			}
			return get(p.HTTP, target)
		},
		publish: func(r *reader, data []byte) error { return publish(rest, r.channel, data) },
	}
}

func publish(rest *poster, channel string, data []byte) error {
	return rest.post("/v1/publish", fmt.Appendf(nil, `{"channel":"/%s","data":%s}`, channel, data))
}

// get is a request with lines besides its host.
func get(host, target string, lines ...string) string {
	lines = append([]string{"GET " + target + " HTTP/1.1", "Host: " + host}, lines...)
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

func upgrade(host, target string) string {
	return get(host, target, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Key: Y29tZXQgYmVuY2ggY29tZQ==")
}

// site is a server as comet bench meets it.
type site struct {
	http, rest string
	pid        int
}

func siteOf(p *cluster.Process) site { return site{http: p.HTTP, rest: p.Internal, pid: p.Pid()} }

// result is the part that matters here of what comet bench finds.
type result struct {
	RatePerSecond float64
	Sessions      struct {
		Established int
		PerSecond   float64
	}
	Delivery struct {
		Lost             int64
		PerSecond        float64
		BytesPerDelivery float64
		Latency          struct {
			P99 float64 `json:"p99Milliseconds"`
		}
	}
	Server struct {
		CPUPerMillion      float64 `json:"cpuSecondsPerMillionDeliveries"` // microseconds for one
		CPUPerSession      float64 `json:"cpuMicrosecondsPerSession"`
		CPUPerClientSecond float64 `json:"cpuMicrosecondsPerClientSecond"`
		PSSPerClient       float64 `json:"pssBytesPerClient"`
	}
	Warnings []string
}

// tool runs comet bench against a server.
func tool(b *testing.B, s site, mode, transport string, clients int, flags ...string) result {
	b.Helper()
	args := []string{
		"bench", mode, "--json=-", "--url=http://" + s.http, "--transport=" + transport,
		"--clients=" + strconv.Itoa(clients), "--pid=" + strconv.Itoa(s.pid),
	}
	if mode == "broadcast" || mode == "fanout" {
		args = append(args, "--rest=http://"+s.rest)
	}
	cmd := exec.CommandContext(b.Context(), cluster.Released(b), append(args, flags...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("comet bench %s: %v\n%s", mode, err, out)
	}
	var r result
	if err := json.Unmarshal(bytes.TrimSpace(out), &r); err != nil {
		b.Fatalf("comet bench printed %s: %v", out, err)
	}
	if r.Sessions.Established != clients || r.Delivery.Lost > 0 {
		b.Fatalf("not all clients got everything: %s", out)
	}
	for _, warning := range r.Warnings {
		b.Logf("%s: %s", transport, warning)
	}
	return r
}
