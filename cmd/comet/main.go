// Command comet is the push server: everything in one process on a laptop
// (comet dev), or the services apart (comet serve).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/comet-push/comet/internal/run"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := untilSignal(os.Stderr)
	code := execute(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// execute runs the command line and returns its exit code.
func execute(ctx context.Context, args, environ []string, out, errOut io.Writer) int {
	c := command(environ, out, errOut) //nolint:contextcheck // ExecuteContext hands it over
	c.SetArgs(args)
	if err := c.ExecuteContext(ctx); err != nil {
		_, _ = fmt.Fprintln(errOut, "comet:", err) // nowhere else to say it
		return 1
	}
	return 0
}

// untilSignal returns a context that ends, as a drain, with the first signal.
// The second one ends the process at once.
func untilSignal(errOut io.Writer) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range signals {
			if errors.Is(context.Cause(ctx), run.ErrDraining) {
				_, _ = fmt.Fprintln(errOut, "comet: second signal, ended at once")
				os.Exit(1)
			}
			cancel(run.ErrDraining)
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(signals)
		<-done
		cancel(nil)
	}
}
