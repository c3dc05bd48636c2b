package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/comet-push/comet/internal/load"
)

const benchLong = `Bench puts load on a Comet server and measures what it does: how fast, how
much is lost, and what it costs. It is an ordinary client of the server's
public doors, and can be used against any server of the same protocols.

Every client subscribes to one channel with one connection, and checks that
nothing of it is missing, repeated or out of order. Messages are due at fixed
times whatever became of those before, and latency counts from then on. With
--pid the server's CPU time and memory are measured too. What the tool itself
used is always shown: where that is most of what the machine had left, the
figures say more about the tool than about the server.

Start with a server on this machine:

  comet dev &
  comet bench check --transport sse
  comet bench broadcast --transport ws --clients 1000 --rate 50 --pid $(pgrep -x comet)`

// benchOptions are what a bench is told besides its config.
type benchOptions struct {
	json    string
	publish string
	quiet   bool
}

func bench(out, errOut io.Writer) *cobra.Command {
	c := &cobra.Command{
		Use: "bench", Short: "Put load on a server and measure it", Long: benchLong, Args: cobra.NoArgs,
		SilenceErrors: true, SilenceUsage: true,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := c.Help(); err != nil {
				return err
			}
			return errors.New("say what to measure: one of check, idle, broadcast, channels, storm, fanout")
		},
	}
	for _, mode := range []struct {
		mode                 load.Mode
		short, long, example string
	}{
		{
			load.Check, "Test a transport with a few clients and messages",
			"Check subscribes 6 clients to 3 channels, publishes for 3 s and ends with\nstatus 1 if anything is lost, repeated, out of order or refused.",
			"  comet bench check --transport long-poll",
		},
		{
			load.Idle, "Hold clients that get no messages",
			"Idle holds clients that get no messages, and measures what each of them\ncosts: how much the server's memory grew, and its CPU time.",
			"  comet bench idle --transport sse --clients 15000 --pid $(pgrep -x comet)",
		},
		{
			load.Broadcast, "Send every message to all clients",
			"Broadcast sends every message to all clients, at a fixed rate.",
			"  comet bench broadcast --transport ws --clients 10000 --rate 5 --pid $(pgrep -x comet)",
		},
		{
			load.Channels, "Spread clients and messages over many channels",
			"Channels spreads clients and messages over many channels. The rate is that\nof all channels together.",
			"  comet bench channels --transport long-polling --clients 2000 --channels 500 --rate 1000",
		},
		{
			load.Storm, "Connect clients as fast as they come in",
			"Storm connects clients as fast as they come in, --opening at a time, and\nmeasures what a session costs until it is subscribed.",
			"  comet bench storm --transport websocket --clients 10000 --pid $(pgrep -x comet)",
		},
		{
			load.Fanout, "Find the highest rate of a broadcast",
			"Fanout doubles the rate of a broadcast until latency exceeds --limit for more\nthan 1 %, or something is lost, and closes in on the highest rate without. A\nrate counts as too high after two tries.",
			"  comet bench fanout --transport sse --clients 1000 --limit 250ms --pid $(pgrep -x comet)",
		},
	} {
		c.AddCommand(benchMode(mode.mode, mode.short, mode.long, mode.example, out, errOut))
	}
	return c
}

func benchMode(mode load.Mode, short, long, example string, out, errOut io.Writer) *cobra.Command {
	cfg := load.Defaults(mode)
	var o benchOptions
	c := &cobra.Command{
		Use: string(mode), Short: short, Long: long, Example: example, Args: cobra.NoArgs,
		SilenceErrors: true, SilenceUsage: true,
		RunE: func(c *cobra.Command, _ []string) error {
			switch o.publish {
			case "rest":
			case "edge":
				cfg.PublishEdge = true
			default:
				return fmt.Errorf("--publish %q is neither rest nor edge", o.publish)
			}
			return runBench(c.Context(), cfg, o, out, errOut)
		},
	}
	c.Flags().SortFlags = false
	benchFlags(c.Flags(), &cfg, &o)
	return c
}

// benchFlags are a mode's: those that mean something to it.
func benchFlags(f *pflag.FlagSet, cfg *load.Config, o *benchOptions) {
	publishes := cfg.Mode != load.Idle && cfg.Mode != load.Storm
	f.StringVar(&cfg.URL, "url", cfg.URL, "the server's public door")
	f.StringVar(&cfg.Transport, "transport", cfg.Transport, strings.Join(load.Transports(), ", "))
	f.IntVar(&cfg.Clients, "clients", cfg.Clients, "how many clients subscribe, up to 60000")
	o.publish = "rest"
	if publishes {
		f.StringVar(&cfg.REST, "rest", "", "the server's door for publishing (port 8081 on the host of --url)")
		f.StringVar(&o.publish, "publish", o.publish, "where to publish: rest, or edge (POST /channels/… at --url)")
		f.IntVar(&cfg.Channels, "channels", cfg.Channels, "how many channels (0: a tenth of --clients)")
		f.IntVar(&cfg.Size, "size", cfg.Size, "bytes of a message's data")
		f.DurationVar(&cfg.Warmup, "warmup", cfg.Warmup, "how long to publish before measuring")
		f.IntVar(&cfg.Publishers, "publishers", cfg.Publishers, "how many connections publish, a channel always over the same")
	}
	if publishes && cfg.Mode != load.Fanout {
		f.Float64Var(&cfg.Rate, "rate", cfg.Rate, "messages per second, over all channels")
	}
	if cfg.Mode == load.Fanout {
		f.DurationVar(&cfg.Limit, "limit", cfg.Limit, "the latency that at most 1 % may exceed")
		f.DurationVar(&cfg.Duration, "duration", cfg.Duration, "how long to measure each rate")
	} else if cfg.Mode != load.Storm {
		f.DurationVar(&cfg.Duration, "duration", cfg.Duration, "how long to measure, up to 1h")
	}
	f.IntVar(&cfg.PID, "pid", 0, "the server's process on this machine, whose CPU time and memory are measured")
	f.IntVar(&cfg.Opening, "opening", cfg.Opening, "how many clients may be on their way at once")
	f.IntVar(&cfg.Sources, "sources", 0, "how many addresses from 127.0.0.2 on clients come from (one for each 10000, on loopback)")
	f.IntVar(&cfg.Workers, "workers", cfg.Workers, "how many loops serve the clients")
	f.DurationVar(&cfg.PollEvery, "poll-every", cfg.PollEvery, "transport poll: the pause between two requests")
	f.StringVar(&cfg.Prefix, "prefix", cfg.Prefix, "in front of the names of channels; give it a namespace where the server is closed")
	f.BoolVar(&cfg.Remote, "remote", false, "allow a server that is not this machine")
	f.StringVar(&o.json, "json", "", "append the result to this file, as a line of JSON (-: print it instead of the table)")
	f.BoolVar(&o.quiet, "quiet", false, "show no progress")
}

func runBench(ctx context.Context, cfg load.Config, o benchOptions, out, errOut io.Writer) error {
	show := newProgress(errOut)
	if o.quiet {
		show.out = io.Discard
	}
	result, err := load.Run(ctx, cfg, show.line)
	show.end()
	if result == nil {
		return err
	}
	return errors.Join(writeResult(result, o.json, out), err)
}

func writeResult(r *load.Result, file string, out io.Writer) error {
	if file == "" {
		return r.WriteTable(out)
	}
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encoding the result: %w", err)
	}
	text = append(text, '\n')
	if file == "-" {
		_, err := out.Write(text)
		return err
	}
	if err := r.WriteTable(out); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// progress shows how far something is: in a line that is written over on a
// terminal, else in one every few seconds.
type progress struct {
	out      io.Writer
	terminal bool
	every    time.Duration

	last  time.Time
	width int
}

func newProgress(out io.Writer) *progress {
	p := &progress{out: out, every: 5 * time.Second}
	if file, ok := out.(*os.File); ok {
		info, err := file.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

func (p *progress) line(text string) {
	now := time.Now()
	if p.terminal {
		if now.Sub(p.last) >= 100*time.Millisecond {
			p.last = now
			_, _ = fmt.Fprintf(p.out, "\r%-*s", p.width, text) // progress is no result
			p.width = len(text)
		}
		return
	}
	if now.Sub(p.last) >= p.every {
		p.last = now
		_, _ = fmt.Fprintln(p.out, text)
	}
}

func (p *progress) end() {
	if p.terminal && p.width > 0 {
		_, _ = fmt.Fprintf(p.out, "\r%*s\r", p.width, "")
		p.width = 0
	}
}
