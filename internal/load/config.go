package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Mode is what is measured.
type Mode string

// The modes.
const (
	// Idle holds clients that get no messages.
	Idle Mode = "idle"
	// Broadcast sends every message to all clients.
	Broadcast Mode = "broadcast"
	// Channels has many channels with a share of the clients each.
	Channels Mode = "channels"
	// Storm connects clients as fast as they come in.
	Storm Mode = "storm"
	// Fanout looks for the highest rate of a broadcast within a limit of latency.
	Fanout Mode = "fanout"
	// Check is a small test of a transport.
	Check Mode = "check"
)

const (
	maxClients  = 60_000
	maxDuration = time.Hour
	maxSize     = 512 << 10
	maxSources  = 250
	maxRate     = 1e6
)

// Config says what to do to which server. Begin with Defaults.
type Config struct {
	Mode Mode
	// URL is the edge's public door.
	URL string
	// REST is the door for publishing; empty: port 8081 on the host of URL.
	REST string
	// PublishEdge publishes at the public door instead.
	PublishEdge bool
	// Transport is one of Transports.
	Transport string
	// Clients subscribe to one channel each.
	Clients int
	// Channels is how many there are; 0: a tenth of Clients.
	Channels int
	// Rate is in messages per second over all channels.
	Rate float64
	// Duration is how long is measured, in Fanout for each rate.
	Duration time.Duration
	// Warmup comes before that.
	Warmup time.Duration
	// Size is that of a message's data, in bytes.
	Size int
	// Limit is the latency that at most 1 % may exceed in Fanout.
	Limit time.Duration
	// PID is the server's process on this machine; 0: not measured.
	PID int
	// Sources is how many of 127.0.0.2, 127.0.0.3 and so on clients come from;
	// 0: one for each 10,000 clients, and no particular one for fewer.
	Sources int
	// Opening is how many clients may be on their way at once.
	Opening int
	// Publishers have a connection each.
	Publishers int
	// Workers have a share of the clients each.
	Workers int
	// PollEvery is the pause between two requests of transport poll.
	PollEvery time.Duration
	// Remote allows another machine as the server.
	Remote bool
	// Prefix is in front of the names of channels.
	Prefix string
}

// Defaults returns a mode's defaults.
func Defaults(mode Mode) Config {
	c := Config{
		Mode: mode, URL: "http://127.0.0.1:8080", Transport: "long-polling", Clients: 1000, Channels: 1,
		Rate: 10, Duration: 15 * time.Second, Warmup: 3 * time.Second, Size: 100, Limit: 250 * time.Millisecond,
		Opening: 128, Publishers: 1, Workers: max(1, runtime.NumCPU()/2), PollEvery: time.Second, Prefix: "/bench",
	}
	switch mode {
	case Idle:
		c.Duration = 30 * time.Second
	case Fanout:
		c.Duration = 4 * time.Second
	case Channels:
		c.Channels, c.Publishers, c.Rate = 0, 4, 1000
	case Check:
		c.Clients, c.Channels, c.Rate = 6, 3, 30
		c.Duration, c.Warmup = 3*time.Second, 0
	}
	return c
}

// complete fills in what depends on other fields.
func (c Config) complete() Config {
	if c.Channels == 0 {
		c.Channels = max(1, c.Clients/10)
	}
	if c.Sources == 0 && c.Clients > 10_000 {
		c.Sources = (c.Clients + 9_999) / 10_000
	}
	return c
}

// check says what is wrong with a complete config.
func (c Config) check() error {
	if err := checkTransport(c.Transport); err != nil {
		return err
	}
	for _, bound := range []struct {
		name            string
		value, from, to float64
		unit, hint      string
	}{
		{name: "--clients", value: float64(c.Clients), from: 1, to: maxClients, hint: "run the tool on several machines for more"},
		{name: "--channels", value: float64(c.Channels), from: 1, to: float64(c.Clients), hint: "every channel needs a client"},
		{name: "--rate", value: c.Rate, from: 0.01, to: maxRate},
		{name: "--duration", value: c.Duration.Seconds(), from: 0.1, to: maxDuration.Seconds(), unit: " s"},
		{name: "--warmup", value: c.Warmup.Seconds(), to: maxDuration.Seconds(), unit: " s"},
		{name: "--size", value: float64(c.Size), from: float64(minSize), to: maxSize, unit: " bytes", hint: "a message carries its time and number"},
		{name: "--limit", value: c.Limit.Seconds(), from: 0.001, to: 60, unit: " s"},
		{name: "--sources", value: float64(c.Sources), to: maxSources},
		{name: "--opening", value: float64(c.Opening), from: 1, to: maxClients},
		{name: "--publishers", value: float64(c.Publishers), from: 1, to: 256},
		{name: "--workers", value: float64(c.Workers), from: 1, to: 256},
		{name: "--poll-every", value: c.PollEvery.Seconds(), from: 0.001, to: 3600, unit: " s"},
	} {
		if bound.value < bound.from || bound.value > bound.to {
			err := fmt.Errorf("%s is %v%s, and has to lie between %v and %v", bound.name, bound.value, bound.unit, bound.from, bound.to)
			if bound.hint != "" {
				err = fmt.Errorf("%w: %s", err, bound.hint)
			}
			return err
		}
	}
	if !strings.HasPrefix(c.Prefix, "/") || strings.ContainsAny(c.Prefix, " \"\\%?#*~\r\n") {
		return fmt.Errorf("--prefix %q is no channel: it begins with / and has plain letters, digits and dashes", c.Prefix)
	}
	return nil
}

// endpoint is a URL, resolved.
type endpoint struct {
	host, path string
	addr       netip.AddrPort
	secure     bool
}

// resolve finds the address of a URL, which has to be of this machine unless
// remote is set.
func resolve(ctx context.Context, flag, text string, remote bool) (endpoint, error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https") || u.RawQuery != "" {
		return endpoint{}, fmt.Errorf("%s %q is not like http://127.0.0.1:8080", flag, text)
	}
	e := endpoint{host: u.Host, path: strings.TrimRight(u.EscapedPath(), "/"), secure: u.Scheme == "https"}
	port := cmp.Or(u.Port(), map[bool]string{true: "443", false: "80"}[e.secure])
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return endpoint{}, fmt.Errorf("%s %q has no port that a server could have", flag, text)
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		return endpoint{}, fmt.Errorf("resolving %s: %w", flag, err)
	}
	for i := range found {
		found[i] = found[i].Unmap()
	}
	slices.SortStableFunc(found, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() }) // IPv4 first
	if len(found) == 0 {
		return endpoint{}, fmt.Errorf("resolving %s: %q has no address", flag, u.Hostname())
	}
	e.addr = netip.AddrPortFrom(found[0], uint16(number))
	if !remote && !e.addr.Addr().IsLoopback() {
		return endpoint{}, fmt.Errorf("%s %s is another machine: give --remote if you may put load on it", flag, text)
	}
	return e, nil
}

// rest is where to publish.
func (c Config) rest() (string, error) {
	if c.REST != "" {
		return c.REST, nil
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		return "", errors.New("--url is no URL")
	}
	return "http://" + net.JoinHostPort(u.Hostname(), "8081"), nil
}
