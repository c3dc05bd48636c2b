package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	adminv1 "github.com/comet-push/comet/gen/comet/admin/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
)

const slotsLong = `Slots are the 256 shares of all channels. Slots looks at them and at the
brokers that hold them, and gives orders about both. It asks any broker, which
passes orders on to the one they are for.`

const (
	askTimeout = 35 * time.Second // longer than a broker waits for an order
	drainLook  = 250 * time.Millisecond
	viewsLag   = 5 * time.Second // that brokers may be behind one another
)

// operator is who asks a broker.
type operator struct {
	server string
	out    io.Writer
	errOut io.Writer
}

func slots(out, errOut io.Writer) *cobra.Command {
	o := &operator{out: out, errOut: errOut}
	c := &cobra.Command{
		Use: "slots", Short: "Look at slots and brokers, and move, drain or recover them", Long: slotsLong, Args: cobra.NoArgs,
		SilenceErrors: true, SilenceUsage: true,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := c.Help(); err != nil {
				return err
			}
			return errors.New("say what to do: one of list, brokers, move, drain, undrain, recover")
		},
	}
	c.PersistentFlags().StringVar(&o.server, "server", "127.0.0.1:9090", "a broker's door for gRPC, host:port")
	c.AddCommand(o.list(), o.brokers(), o.move(), o.drain(), o.undrain(), o.recover())
	for _, sub := range c.Commands() {
		sub.SilenceErrors, sub.SilenceUsage = true, true
	}
	return c
}

func (o *operator) list() *cobra.Command {
	var short, leaderless bool
	var broker, format string
	c := &cobra.Command{
		Use: "list", Short: "List who leads and holds each slot, and what is in it", Args: cobra.NoArgs,
		Long: "List shows each slot: who leads it, who else holds it, and who is to hold it\n" +
			"and catches up (+), in which term, and what is in it.",
		RunE: func(c *cobra.Command, _ []string) error {
			req := &adminv1.ListSlotsRequest{Broker: broker}
			switch {
			case short:
				req.State = adminv1.SlotState_SLOT_STATE_UNDER_REPLICATED
			case leaderless:
				req.State = adminv1.SlotState_SLOT_STATE_LEADERLESS
			}
			resp, err := ask(c.Context(), o, func(ctx context.Context, a adminv1.AdminServiceClient) (*adminv1.ListSlotsResponse, error) {
				return a.ListSlots(ctx, req)
			})
			if err != nil {
				return err
			}
			return o.write(format, resp, slotsTable(resp))
		},
	}
	c.Flags().BoolVar(&short, "under-replicated", false, "only slots of which a copy is missing")
	c.Flags().BoolVar(&leaderless, "leaderless", false, "only slots that nobody leads")
	c.Flags().StringVar(&broker, "broker", "", "only slots that this broker holds or should hold")
	c.MarkFlagsMutuallyExclusive("under-replicated", "leaderless")
	formatFlag(c, &format)
	return c
}

func (o *operator) brokers() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use: "brokers", Short: "List the brokers, and how many slots each leads and holds", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			resp, err := o.listBrokers(c.Context())
			if err != nil {
				return err
			}
			return o.write(format, resp, brokersTable(resp))
		},
	}
	formatFlag(c, &format)
	return c
}

func (o *operator) move() *cobra.Command {
	return &cobra.Command{
		Use: "move SLOT BROKER", Short: "Have a broker lead a slot", Args: cobra.ExactArgs(2),
		Long: "Move has a broker lead a slot, history and all, and returns when it does. The\n" +
			"slot stays there for an hour, unless something happens to the broker.",
		RunE: func(c *cobra.Command, args []string) error {
			n, err := slotNumber(args[0])
			if err != nil {
				return err
			}
			resp, err := ask(c.Context(), o, func(ctx context.Context, a adminv1.AdminServiceClient) (*adminv1.MoveSlotResponse, error) {
				return a.MoveSlot(ctx, &adminv1.MoveSlotRequest{Slot: n, Broker: args[1]})
			})
			if err != nil {
				return err
			}
			return o.say("slot %d is led by %s, in term %d\n", n, memberName(resp.GetSlot().GetPrimary()), resp.GetSlot().GetTerm())
		},
	}
}

func (o *operator) recover() *cobra.Command {
	var accept bool
	c := &cobra.Command{
		Use: "recover SLOT...", Short: "Start slots anew, empty, that nobody leads", Args: cobra.MinimumNArgs(1),
		Long: "Recover starts slots anew that wait for brokers which do not come back. What was\n" +
			"acknowledged in them is lost, also if such a broker comes back after all.",
		RunE: func(c *cobra.Command, args []string) error {
			if !accept {
				return errors.New("what was acknowledged in these slots would be lost for good; add --accept-data-loss if you mean that")
			}
			numbers := make([]uint32, len(args))
			for i, arg := range args {
				var err error
				if numbers[i], err = slotNumber(arg); err != nil {
					return err
				}
			}
			var errs []error
			for _, n := range numbers {
				errs = append(errs, o.recoverOne(c.Context(), n))
			}
			return errors.Join(errs...)
		},
	}
	c.Flags().BoolVar(&accept, "accept-data-loss", false, "yes, what was acknowledged in these slots may be lost")
	return c
}

func (o *operator) recoverOne(ctx context.Context, n uint32) error {
	resp, err := ask(ctx, o, func(ctx context.Context, a adminv1.AdminServiceClient) (*adminv1.RecoverSlotResponse, error) {
		return a.RecoverSlot(ctx, &adminv1.RecoverSlotRequest{Slot: n, AcceptDataLoss: true})
	})
	if err != nil {
		return err
	}
	return o.say("slot %d starts anew at %s, after position %d\n", n, memberName(resp.GetSlot().GetPrimary()), resp.GetSlot().GetBase())
}

func (o *operator) drain() *cobra.Command {
	var wait bool
	var timeout time.Duration
	c := &cobra.Command{
		Use: "drain BROKER", Short: "Take all slots from a broker, which goes on running", Args: cobra.ExactArgs(1),
		Long: "Drain takes all slots from a broker and waits until nothing counts on it any\n" +
			"more. The broker goes on running, ready, and passes publishes on. It gets slots\n" +
			"again by comet slots undrain, or when its process is started again. Ending the\n" +
			"wait does not end the drain.",
		RunE: func(c *cobra.Command, args []string) error {
			resp, err := ask(c.Context(), o, func(ctx context.Context, a adminv1.AdminServiceClient) (*adminv1.DrainBrokerResponse, error) {
				return a.DrainBroker(ctx, &adminv1.DrainBrokerRequest{Broker: args[0]})
			})
			if err != nil {
				return err
			}
			if !wait {
				return o.say("%s drains: %s\n", args[0], standing(resp.GetBroker()))
			}
			ctx, cancel := context.WithTimeout(c.Context(), timeout)
			defer cancel()
			return o.untilEmpty(ctx, resp.GetBroker())
		},
	}
	c.Flags().BoolVar(&wait, "wait", true, "wait until it is empty")
	c.Flags().DurationVar(&timeout, "timeout", 10*time.Minute, "how long to wait")
	return c
}

// untilEmpty waits until nothing counts on a broker that drains.
func (o *operator) untilEmpty(ctx context.Context, b *adminv1.BrokerInfo) error {
	show := newProgress(o.errOut)
	defer show.end()
	look := time.NewTicker(drainLook)
	defer look.Stop()
	d := drained{broker: b, seen: time.Now()}
	for d.broker.GetCopies() > 0 {
		show.line(fmt.Sprintf("%s drains: %s", b.GetName(), standing(d.broker)))
		select {
		case <-ctx.Done():
			return fmt.Errorf("stopped waiting: %s; %s goes on draining, see comet slots list --broker=%s", standing(d.broker), b.GetName(), b.GetName())
		case <-look.C:
		}
		resp, err := o.listBrokers(ctx)
		switch {
		case ctx.Err() != nil:
			continue
		case err != nil:
			return err
		}
		if err := d.learn(resp, time.Now()); err != nil {
			return err
		}
	}
	show.end()
	return o.say("%s is empty: %s; comet slots undrain %s gives it slots again\n", b.GetName(), standing(d.broker), b.GetName())
}

// drained is a broker that was told to drain, as it was seen to last.
type drained struct {
	broker *adminv1.BrokerInfo
	seen   time.Time
}

// learn takes an answer of any broker, whose view may be behind that of the one
// that answered before: one that has not heard of the drain is no proof that it
// was called off, unless it lasts.
func (d *drained) learn(resp *adminv1.ListBrokersResponse, now time.Time) error {
	switch next := find(resp, d.broker); {
	case next == nil || next.GetState() == adminv1.BrokerState_BROKER_STATE_ABSENT:
		return fmt.Errorf("%s ended while it drained; see comet slots list for what became of its slots", d.broker.GetName())
	case next.GetState() != adminv1.BrokerState_BROKER_STATE_SERVING:
		d.broker, d.seen = next, now
	case now.Sub(d.seen) > viewsLag:
		return fmt.Errorf("%s was undrained meanwhile", d.broker.GetName())
	}
	return nil
}

func (o *operator) undrain() *cobra.Command {
	return &cobra.Command{
		Use: "undrain BROKER", Short: "Let a broker have slots again", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			_, err := ask(c.Context(), o, func(ctx context.Context, a adminv1.AdminServiceClient) (*adminv1.UndrainBrokerResponse, error) {
				return a.UndrainBroker(ctx, &adminv1.UndrainBrokerRequest{Broker: args[0]})
			})
			if err != nil {
				return err
			}
			return o.say("%s takes slots again\n", args[0])
		},
	}
}

func (o *operator) listBrokers(ctx context.Context) (*adminv1.ListBrokersResponse, error) {
	return ask(ctx, o, func(ctx context.Context, a adminv1.AdminServiceClient) (*adminv1.ListBrokersResponse, error) {
		return a.ListBrokers(ctx, &adminv1.ListBrokersRequest{})
	})
}

func (o *operator) say(format string, args ...any) error {
	_, err := fmt.Fprintf(o.out, format, args...)
	return err
}

// ask asks the broker that --server names.
func ask[R any](ctx context.Context, o *operator, question func(context.Context, adminv1.AdminServiceClient) (R, error)) (resp R, err error) {
	pool := rpc.NewPool(nil)
	defer func() { err = errors.Join(err, pool.Close()) }()
	conn, err := pool.Conn(o.server)
	if err != nil {
		return resp, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	resp, err = question(ctx, adminv1.NewAdminServiceClient(conn))
	return resp, o.explain(err)
}

// explain says what an answer means to people.
func (o *operator) explain(err error) error {
	if err == nil {
		return nil
	}
	st, reason := status.Convert(err), rpc.Reason(err)
	switch {
	case reason != channelv1.ErrorReason_ERROR_REASON_UNSPECIFIED:
		return fmt.Errorf("%s (%s)", st.Message(), rpc.ReasonName(reason))
	case st.Code() == codes.Unimplemented:
		return fmt.Errorf("what answers at %s is not a broker; give the gRPC door of one with --server: %s", o.server, st.Message())
	case st.Code() == codes.Unavailable || st.Code() == codes.DeadlineExceeded:
		return fmt.Errorf("no broker answers at %s; give the gRPC door of one with --server: %s", o.server, st.Message())
	}
	return errors.New(st.Message())
}

func slotNumber(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n >= shard.Slots {
		return 0, fmt.Errorf("%.20q is not a slot; they are numbered from 0 to %d", text, shard.Slots-1)
	}
	return uint32(n), nil
}
