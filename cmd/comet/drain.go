package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	adminv1 "github.com/comet-push/comet/gen/comet/admin/v1"
	"github.com/comet-push/comet/internal/rpc"
)

const drainLong = `Drain takes an edge out of service as SIGTERM does: its readiness goes off, its
clients are sent away evenly over a while, and their sessions go on at the edges
that they come to next, with all that waits in them. It shows how far that is, and
returns when nothing is left.

The edge then stays, drained and not ready, and takes no clients until its process
is started again: stop it when you like. Ending the command does not end the
drain; asked again, it shows the drain that is under way.

In a process that has other services, too (--target=all), these go on; but the
process as a whole is not ready any more.

It is refused where there is no other edge for the clients to go to. With --force
they are sent away all the same, come back in vain until an edge takes them, and
lose their sessions after half a minute.`

// drainEvery is how often the log of a drain has a line.
const drainEvery = time.Second

func drainEdge(out, errOut io.Writer) *cobra.Command {
	o := &operator{out: out, errOut: errOut}
	var force bool
	c := &cobra.Command{
		Use: "drain EDGE", Short: "Send all clients of an edge away, and show how far that is", Long: drainLong,
		Args: cobra.ExactArgs(1), SilenceErrors: true, SilenceUsage: true,
		RunE: func(c *cobra.Command, args []string) error { return o.drainEdge(c.Context(), args[0], force) },
	}
	serverFlag(c, o)
	c.Flags().BoolVar(&force, "force", false, "also if there is no other edge for the clients to go to")
	return c
}

// drainEdge has an edge drain, and follows that to its end.
func (o *operator) drainEdge(ctx context.Context, edge string, force bool) (err error) {
	pool := rpc.NewPool(nil)
	defer func() { err = errors.Join(err, pool.Close()) }()
	conn, err := pool.Conn(o.server)
	if err != nil {
		return err
	}
	began := time.Now()
	stream, err := adminv1.NewAdminServiceClient(conn).DrainEdge(ctx, &adminv1.DrainEdgeRequest{Edge: edge, Force: force})
	if err != nil {
		return o.explain(err)
	}
	show := newProgress(o.errOut)
	show.every = drainEvery
	defer show.end()
	seen := false // the drain is under way
	for {
		p, err := stream.Recv()
		switch {
		case err != nil && seen && ctx.Err() != nil:
			return fmt.Errorf("stopped waiting; %s goes on draining: comet drain %s shows how far it is", edge, edge)
		case err != nil && seen:
			return fmt.Errorf("the drain of %s was lost sight of: see comet edges whether it is still there, and ask again: %w",
				edge, o.explain(err))
		case err != nil:
			return o.explain(err)
		case p.GetDone():
			show.end()
			return o.say("%s is drained, after %v: %d clients were sent away, %d sessions handed over; stop it, or start it again\n",
				edge, time.Since(began).Round(100*time.Millisecond), p.GetSentAway(), p.GetHandedOver())
		}
		seen = true
		show.line(fmt.Sprintf("%s drains: %s left; %d of %d clients sent away",
			edge, clientsText(p.GetLeft()), p.GetSentAway(), p.GetSentAway()+p.GetWaiting()))
	}
}

func listEdges(out, errOut io.Writer) *cobra.Command {
	o := &operator{out: out, errOut: errOut}
	var format string
	c := &cobra.Command{
		Use: "edges", Short: "List the edges, and how many clients each has", Args: cobra.NoArgs,
		SilenceErrors: true, SilenceUsage: true,
		RunE: func(c *cobra.Command, _ []string) error {
			resp, err := ask(c.Context(), o, func(ctx context.Context, a adminv1.AdminServiceClient) (*adminv1.ListEdgesResponse, error) {
				return a.ListEdges(ctx, &adminv1.ListEdgesRequest{})
			})
			if err != nil {
				return err
			}
			return o.write(format, resp, edgesTable(resp))
		},
	}
	serverFlag(c, o)
	formatFlag(c, &format)
	return c
}

// edgesTable shows edges to people.
func edgesTable(resp *adminv1.ListEdgesResponse) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "EDGE\tSTATE\tZONE\tSESSIONS\tSOCKETS\tREADERS")
	for _, e := range resp.GetEdges() {
		zone := e.GetZone()
		if zone == "" {
			zone = "-"
		}
		sessions, sockets, readers := "?", "?", "?" // it does not answer
		if c := e.GetClients(); c != nil {
			sessions, sockets, readers = fmt.Sprint(c.GetSessions()), fmt.Sprint(c.GetSockets()), fmt.Sprint(c.GetReaders())
		}
		state := strings.ToLower(strings.TrimPrefix(e.GetState().String(), "EDGE_STATE_"))
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", e.GetName(), state, zone, sessions, sockets, readers)
	}
	_ = w.Flush() // into the builder
	if resp.GetStale() {
		b.WriteString("\netcd cannot be reached: this is as it was seen last\n")
	}
	return b.String()
}

// clientsText is what is at an edge.
func clientsText(c *adminv1.EdgeClients) string {
	return fmt.Sprintf("%d sessions, %d WebSockets and %d readers", c.GetSessions(), c.GetSockets(), c.GetReaders())
}

// serverFlag adds the flag that says whom to ask.
func serverFlag(c *cobra.Command, o *operator) {
	c.Flags().StringVar(&o.server, "server", "127.0.0.1:9090", "a broker's door for gRPC, host:port")
}
