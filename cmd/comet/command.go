package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/comet-push/comet/cmd/comet/wire"
	"github.com/comet-push/comet/internal/config"
	"github.com/comet-push/comet/internal/telemetry"
)

// command is the command line: comet alone is comet dev.
func command(environ []string, out, errOut io.Writer) *cobra.Command {
	root := server(config.Dev(), environ, out, errOut)
	root.Use = "comet"
	root.Short = "Push data from servers to browsers over plain HTTP"
	root.Long = "Comet pushes data from servers to browsers over plain HTTP.\n" +
		"Without a subcommand it is comet dev: everything in one process, open, on loopback."

	dev := server(config.Dev(), environ, out, errOut)
	dev.Use = "dev"
	dev.Short = "Run everything in one process, open to everybody on this machine"

	serve := server(config.Serve(), environ, out, errOut)
	serve.Use = "serve"
	serve.Short = "Run all services or one of them, closed except for what namespaces open"

	root.AddCommand(dev, serve, printConfig(environ, out), bench(out, errOut), slots(out, errOut), drainEdge(out, errOut), listEdges(out, errOut), &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(out, "comet %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	})
	root.SetOut(out)
	root.SetErr(errOut)
	return root
}

// configured returns a command whose flags are all keys of cfg, and which calls
// do once they are loaded.
func configured(cfg config.Config, environ []string, do func(ctx context.Context, cfg config.Config, fs *pflag.FlagSet) error) *cobra.Command {
	keys := pflag.NewFlagSet("comet", pflag.ContinueOnError)
	cfg.Bind(keys)
	c := &cobra.Command{
		Args: cobra.NoArgs, SilenceErrors: true, SilenceUsage: true,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := cfg.Load(keys, environ); err != nil {
				return err
			}
			return do(c.Context(), cfg, keys)
		},
	}
	c.Flags().SortFlags = false
	c.Flags().AddFlagSet(keys)
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return config.UnknownFlag(keys, err) })
	return c
}

func printConfig(environ []string, out io.Writer) *cobra.Command {
	c := configured(config.Serve(), environ, func(_ context.Context, cfg config.Config, keys *pflag.FlagSet) error {
		return cfg.Write(out, keys)
	})
	c.Use = "config"
	c.Short = "Print the configuration that comet serve would use, as a file"
	return c
}

// server returns a command that runs a process.
func server(cfg config.Config, environ []string, out, errOut io.Writer) *cobra.Command {
	return configured(cfg, environ, func(ctx context.Context, cfg config.Config, _ *pflag.FlagSet) error {
		logger, err := telemetry.Logger(errOut, cfg.Log.Format, cfg.Log.Level)
		if err != nil {
			return err
		}
		process, err := wire.New(cfg, wire.Env{Logger: logger, Version: version}) //nolint:contextcheck // New starts nothing
		if err != nil {
			return err
		}
		logStart(logger, cfg, process)
		if cfg.Dev {
			stop := greet(ctx, out, process)
			defer stop()
		}
		err = process.Run(ctx)
		logger.Info("stopped")
		return err
	})
}

func logStart(logger *slog.Logger, cfg config.Config, p *wire.Process) {
	at := p.Addrs()
	logger.Info("started", slog.String("version", version), slog.String("target", cfg.Target),
		slog.String("node", p.Node().Member()), slog.String("edge", at.Edge), slog.String("grpc", at.GRPC),
		slog.String("internal", at.Internal), slog.String("node_door", at.Node), slog.String("advertised", p.Node().Addr))
	if !cfg.Dev && len(cfg.Namespaces) == 0 {
		logger.Warn("no namespace is configured, so nobody may publish or subscribe; add namespaces to the file that --config names")
	}
}

// greet says where to look, once the process is ready. stop waits until it has.
func greet(ctx context.Context, out io.Writer, p *wire.Process) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		look := time.NewTicker(20 * time.Millisecond)
		defer look.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-look.C:
				if !ready(p) {
					continue
				}
				_, _ = io.WriteString(out, greeting(p.Addrs())) // a closed terminal is no reason to stop
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}

func ready(p *wire.Process) bool {
	for _, err := range p.Ready() {
		if err != nil {
			return false
		}
	}
	return true
}

func greeting(at wire.Addrs) string {
	who := "everybody on this machine"
	for _, addr := range []string{at.Edge, at.GRPC, at.Internal} {
		if host, _, err := net.SplitHostPort(addr); err == nil && addr != "" && !net.ParseIP(host).IsLoopback() {
			who = "everybody who can reach it"
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\nComet is running, open to %s: no passwords, no limits on channels.\n\n", who)
	if at.Edge != "" {
		fmt.Fprintf(&b, "  Demo page   http://%s/\n", at.Edge)
		fmt.Fprintf(&b, "  Browsers    http://%s/cometd\n", at.Edge)
	}
	if at.GRPC != "" {
		fmt.Fprintf(&b, "  gRPC        %s\n", at.GRPC)
	}
	fmt.Fprintf(&b, "  REST        http://%s/v1/openapi.json\n", at.Internal)
	if at.GRPC != "" {
		fmt.Fprintf(&b, "\nPublish:\n\n  curl -H 'Content-Type: application/json' http://%s/v1/publish \\\n"+
			"    -d '{\"channel\": \"/demo\", \"data\": {\"text\": \"hello\"}}'\n", at.Internal)
	}
	b.WriteString("\nEnd it with Ctrl-C.\n\n")
	return b.String()
}
