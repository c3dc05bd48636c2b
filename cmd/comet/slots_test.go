package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	adminv1 "github.com/comet-push/comet/gen/comet/admin/v1"
	"github.com/comet-push/comet/internal/run"
)

// TestSlots asks a server that has everything in one process.
func TestSlots(t *testing.T) {
	p := startDev(t)
	server := p.door("gRPC")
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := free.Addr().String()
	_ = free.Close()
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"list", 0, "256 slots: 256 led"},
		{"list --leaderless", 0, "0 of 256 slots\n"},
		{"list --broker=moon", 1, "there is no broker named moon; there are: alone (BROKER_UNKNOWN)"},
		{"list --leaderless --under-replicated", 1, "none of the others can be"},
		{"list -o xml", 1, `--output "xml" is neither table nor json`},
		{"brokers", 0, "1 broker: 1 serving"},
		{"move 7 alone", 0, "slot 7 is led by alone, in term 1"},
		{"move 7 moon", 1, "there are: alone (BROKER_UNKNOWN)"},
		{"move 256 alone", 1, `"256" is not a slot; they are numbered from 0 to 255`},
		{"move 7", 1, "accepts 2 arg(s), received 1"},
		{"recover 7", 1, "add --accept-data-loss if you mean that"},
		{"recover 7 x --accept-data-loss", 1, `"x" is not a slot`},
		{"recover 7 8 --accept-data-loss", 1, "slot 8 needs no recovery"},
		{"drain alone", 1, "no other broker could take its slots; start one, or undrain one (ORDER_REFUSED)"},
		{"undrain alone", 0, "alone takes slots again"},
		{"undrain " + strings.Repeat("x", 100_000), 1, "the name of a broker has 100000 bytes"},
		{"list --server=" + nobody, 1, "no broker answers at " + nobody + "; give the gRPC door of one with --server"},
		{"fly", 1, `unknown command "fly" for "comet slots"`},
		{"", 1, "say what to do: one of list"},
	} {
		var out output
		args := append([]string{"slots", "--server=" + server}, strings.Fields(tt.args)...)
		if code := execute(t.Context(), args, nil, &out, &out); code != tt.code || !strings.Contains(out.String(), tt.want) {
			t.Errorf("comet slots %.100s: code %d\n%.2000s\nwant %d %q", tt.args, code, out.String(), tt.code, tt.want)
		}
	}
	var out output
	if code := execute(t.Context(), []string{"slots", "list", "-o", "json", "--server=" + server}, nil, &out, &p.logs); code != 0 {
		t.Errorf("json: code %d", code)
	}
	var list struct {
		Slots    []struct{ State, Primary string }
		Replicas int
	}
	if err := json.Unmarshal([]byte(out.String()), &list); err != nil || len(list.Slots) != 256 || !strings.HasPrefix(list.Slots[9].Primary, "alone@") {
		t.Errorf("json: %v, %.300s", err, out.String())
	}
	p.stop()
}

// devServer is a server that has everything in one process.
type devServer struct {
	t          *testing.T
	said, logs output
	cancel     context.CancelCauseFunc
	ended      chan int
}

// startDev starts comet dev and waits until it is ready.
func startDev(t *testing.T) *devServer {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	p := &devServer{t: t, cancel: cancel, ended: make(chan int, 1)}
	go func() {
		p.ended <- execute(ctx, []string{
			"dev", "--edge.listen=127.0.0.1:0", "--grpc.listen=127.0.0.1:0", "--internal.listen=127.0.0.1:0", "--node.name=alone",
		}, nil, &p.said, &p.logs)
	}()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(20 * time.Second); !strings.Contains(p.said.String(), "Ctrl-C"); {
		select {
		case <-tick.C:
		case code := <-p.ended:
			t.Fatalf("ended with %d\n%s", code, p.logs.String())
		case <-deadline:
			t.Fatalf("no greeting\n%s\n%s", p.said.String(), p.logs.String())
		}
	}
	return p
}

// door is where the greeting says that something is.
func (p *devServer) door(what string) string {
	_, rest, _ := strings.Cut(p.said.String(), what)
	return strings.Fields(rest)[0]
}

// stop ends the server as SIGTERM does.
func (p *devServer) stop() {
	p.t.Helper()
	p.cancel(run.ErrDraining)
	if code := <-p.ended; code != 0 {
		p.t.Errorf("ended with %d\n%s", code, p.logs.String())
	}
}

func TestSlotsTable(t *testing.T) {
	const (
		complete   = adminv1.SlotState_SLOT_STATE_COMPLETE
		short      = adminv1.SlotState_SLOT_STATE_UNDER_REPLICATED
		leaderless = adminv1.SlotState_SLOT_STATE_LEADERLESS
	)
	long := func(n int) string { return fmt.Sprintf("ip-10-0-0-12.eu-central-1.example-broker-%d@ab", n) }
	got := slotsTable(&adminv1.ListSlotsResponse{
		Replicas: 2, Silent: []string{"broker-2"}, Slots: []*adminv1.SlotInfo{
			{
				Slot: 0, State: complete, Term: 1, Primary: "broker-0@ab", InSync: []string{"broker-0@ab", "broker-1@cd"},
				Desired: []string{"broker-0@ab", "broker-1@cd"}, Log: &adminv1.SlotLog{Messages: 812, Bytes: 1_258_292},
			},
			{
				Slot: 1, State: short, Term: 12, Primary: "broker-1@cd", InSync: []string{"broker-1@cd"},
				Desired: []string{"broker-0@ab", "broker-1@cd"}, Log: &adminv1.SlotLog{},
			},
			{
				Slot: 2, State: leaderless, Term: 3, Primary: "broker-2@ef", InSync: []string{"broker-2@ef"},
				Desired: []string{"broker-2@ef"}, WaitsFor: "return", Hint: "start it again",
			},
			{Slot: 3, State: leaderless},
			{
				Slot: 255, State: complete, Term: 100, Primary: long(0), InSync: []string{long(0), long(1), long(2), long(3)},
				Log: &adminv1.SlotLog{Messages: 12_345_678, Bytes: 1 << 33},
			},
		},
	})
	want := `SLOT  STATE       PRIMARY               COPIES                         TERM  MESSAGES  SIZE
0     complete    broker-0              broker-1                       1     812       1.2 MiB
1     short       broker-1              +broker-0                      12    0         0 B
2     leaderless  (broker-2)            -                              3     ?         ?
3     leaderless  -                     -                              0     ?         ?
255   complete    …-1.example-broker-0  …-1.example-broker-1 … 2 more  100   12345678  8.0 GiB

5 of 256 slots: 3 led, 2 with 2 of 2 copies, 1 catching up, 2 without a primary
1 wait for return: start it again
no answer from broker-2: what is in slots led there is not known
no broker that answers is the controller; without one nothing is moved or repaired
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for line := range strings.Lines(strings.SplitN(got, "\n\n", 2)[0]) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 100 {
			t.Errorf("a line has %d columns: %s", n, line)
		}
	}
}

// TestDrained plays answers of brokers of which some are behind.
func TestDrained(t *testing.T) {
	const (
		serving  = adminv1.BrokerState_BROKER_STATE_SERVING
		draining = adminv1.BrokerState_BROKER_STATE_DRAINING
		absent   = adminv1.BrokerState_BROKER_STATE_ABSENT
	)
	for _, tt := range []struct {
		name   string
		states []adminv1.BrokerState // one a second
		want   string                // an error, at the last
	}{
		{"empties", []adminv1.BrokerState{draining, draining, draining}, ""},
		{"is behind at first", []adminv1.BrokerState{serving, serving, draining}, ""},
		{"is behind again", []adminv1.BrokerState{serving, serving, serving, draining, serving, serving, serving}, ""},
		{"ends", []adminv1.BrokerState{draining, absent}, "broker-1 ended while it drained"},
		{
			"is undrained",
			[]adminv1.BrokerState{draining, serving, serving, serving, serving, serving, serving},
			"broker-1 was undrained meanwhile",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now := time.Unix(0, 0)
			d := drained{broker: &adminv1.BrokerInfo{Name: "broker-1", State: draining, Copies: 9}, seen: now}
			for i, state := range tt.states {
				now = now.Add(time.Second)
				err := d.learn(&adminv1.ListBrokersResponse{Brokers: []*adminv1.BrokerInfo{{Name: "broker-1", State: state}}}, now)
				switch last := i == len(tt.states)-1; {
				case last && tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
					t.Errorf("%v, want %q", err, tt.want)
				case err != nil && (!last || tt.want == ""):
					t.Errorf("second %d: %v", i, err)
				case state == serving && d.broker.GetState() == serving:
					t.Error("it counts as seen by who is behind")
				}
			}
		})
	}
}

func TestBrokersTable(t *testing.T) {
	got := brokersTable(&adminv1.ListBrokersResponse{Stale: true, Brokers: []*adminv1.BrokerInfo{
		{Name: "broker-0", State: adminv1.BrokerState_BROKER_STATE_SERVING, Zone: "a", Primaries: 128, Copies: 256},
		{Name: "broker-1", State: adminv1.BrokerState_BROKER_STATE_DRAINING, Copies: 12},
		{Name: "broker-2", State: adminv1.BrokerState_BROKER_STATE_ABSENT, Primaries: 3, Copies: 3},
	}})
	want := `BROKER    STATE     ZONE  LEADS  HOLDS
broker-0  serving   a     128    256
broker-1  draining  -     0      12
broker-2  absent    -     3      3

3 brokers: 1 serving, 1 draining, 1 absent
etcd cannot be reached: this is as it was seen last
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
