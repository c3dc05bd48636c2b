package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	adminv1 "github.com/comet-push/comet/gen/comet/admin/v1"
	"github.com/comet-push/comet/internal/shard"
)

const (
	maxName   = 20 // columns of a broker's name
	maxCopies = 34 // columns of the copies besides the primary's
)

func formatFlag(c *cobra.Command, format *string) {
	c.Flags().StringVarP(format, "output", "o", "table", "table or json")
}

// write writes an answer in a format.
func (o *operator) write(format string, resp proto.Message, table string) error {
	switch format {
	case "table":
		return o.say("%s", table)
	case "json":
		text, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(resp)
		if err != nil {
			return fmt.Errorf("encoding the answer: %w", err)
		}
		var even any // spaces of protojson vary on purpose
		if err := json.Unmarshal(text, &even); err != nil {
			return fmt.Errorf("encoding the answer: %w", err)
		}
		if text, err = json.MarshalIndent(even, "", "  "); err != nil {
			return fmt.Errorf("encoding the answer: %w", err)
		}
		return o.say("%s\n", text)
	}
	return fmt.Errorf("--output %.20q is neither table nor json", format)
}

// slotsTable shows slots to people, in lines of 100 columns.
func slotsTable(resp *adminv1.ListSlotsResponse) string {
	var b strings.Builder
	if len(resp.GetSlots()) > 0 {
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintln(w, "SLOT\tSTATE\tPRIMARY\tCOPIES\tTERM\tMESSAGES\tSIZE")
		for _, s := range resp.GetSlots() {
			messages, size := "?", "?"
			if l := s.GetLog(); l != nil {
				messages, size = fmt.Sprint(l.GetMessages()), bytesText(l.GetBytes())
			}
			_, _ = fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%d\t%s\t%s\n", s.GetSlot(), stateText(s.GetState()),
				primaryText(s), copiesText(s), s.GetTerm(), messages, size)
		}
		_ = w.Flush() // into the builder
		b.WriteByte('\n')
	}
	b.WriteString(slotsSummary(resp))
	for _, note := range slotsNotes(resp) {
		b.WriteString(note + "\n")
	}
	return b.String()
}

func stateText(s adminv1.SlotState) string {
	switch s {
	case adminv1.SlotState_SLOT_STATE_COMPLETE:
		return "complete"
	case adminv1.SlotState_SLOT_STATE_UNDER_REPLICATED:
		return "short"
	case adminv1.SlotState_SLOT_STATE_LEADERLESS:
		return "leaderless"
	case adminv1.SlotState_SLOT_STATE_UNSPECIFIED:
	}
	return "?"
}

// primaryText is who leads a slot, in parentheses if it is not there.
func primaryText(s *adminv1.SlotInfo) string {
	name := shortName(s.GetPrimary())
	switch {
	case name == "":
		return "-"
	case s.GetState() == adminv1.SlotState_SLOT_STATE_LEADERLESS:
		return "(" + name + ")"
	}
	return name
}

// copiesText is who else holds a slot, and with a plus who catches up.
func copiesText(s *adminv1.SlotInfo) string {
	var copies []string
	for _, m := range s.GetInSync() {
		if m != s.GetPrimary() {
			copies = append(copies, shortName(m))
		}
	}
	for _, m := range s.GetDesired() {
		if !slices.Contains(s.GetInSync(), m) {
			copies = append(copies, "+"+shortName(m))
		}
	}
	if len(copies) == 0 {
		return "-"
	}
	text := strings.Join(copies, " ")
	for left := len(copies) - 1; len([]rune(text)) > maxCopies; left-- {
		text = fmt.Sprintf("%s … %d more", strings.Join(copies[:left], " "), len(copies)-left)
	}
	return text
}

// slotsSummary says in one line how all is.
func slotsSummary(resp *adminv1.ListSlotsResponse) string {
	with := map[int]int{} // slots that are as they should be, by copies
	short, leaderless := 0, 0
	for _, s := range resp.GetSlots() {
		switch s.GetState() {
		case adminv1.SlotState_SLOT_STATE_LEADERLESS:
			leaderless++
		case adminv1.SlotState_SLOT_STATE_UNDER_REPLICATED:
			short++
		default:
			with[min(len(s.GetInSync()), int(resp.GetReplicas()))]++
		}
	}
	total := len(resp.GetSlots())
	text := fmt.Sprintf("%d slots", total)
	switch {
	case total == 0:
		return fmt.Sprintf("0 of %d slots\n", shard.Slots)
	case total < shard.Slots:
		text = fmt.Sprintf("%d of %d slots", total, shard.Slots)
	}
	text += fmt.Sprintf(": %d led", total-leaderless)
	for _, copies := range slices.Backward(slices.Sorted(maps.Keys(with))) {
		text += fmt.Sprintf(", %d with %d of %d copies", with[copies], copies, resp.GetReplicas())
	}
	if short > 0 {
		text += fmt.Sprintf(", %d catching up", short)
	}
	if leaderless > 0 {
		text += fmt.Sprintf(", %d without a primary", leaderless)
	}
	return text + "\n"
}

// slotsNotes are what else is to be known, and done.
func slotsNotes(resp *adminv1.ListSlotsResponse) []string {
	waits, hints := map[string]int{}, map[string]string{}
	for _, s := range resp.GetSlots() {
		if s.GetState() == adminv1.SlotState_SLOT_STATE_LEADERLESS && s.GetWaitsFor() != "" {
			waits[s.GetWaitsFor()]++
			hints[s.GetWaitsFor()] = s.GetHint()
		}
	}
	var notes []string
	for _, what := range slices.Sorted(maps.Keys(waits)) {
		notes = append(notes, fmt.Sprintf("%d wait for %s: %s", waits[what], what, hints[what]))
	}
	if silent := resp.GetSilent(); len(silent) > 0 {
		notes = append(notes, "no answer from "+strings.Join(silent, ", ")+": what is in slots led there is not known")
	}
	switch {
	case resp.GetStale():
		notes = append(notes, "etcd cannot be reached: who leads and holds what is as it was seen last")
	case resp.GetController() == "":
		notes = append(notes, "no broker that answers is the controller; without one nothing is moved or repaired")
	}
	return notes
}

// brokersTable shows brokers to people.
func brokersTable(resp *adminv1.ListBrokersResponse) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "BROKER\tSTATE\tZONE\tLEADS\tHOLDS")
	states := map[string]int{}
	for _, broker := range resp.GetBrokers() {
		state := brokerText(broker.GetState())
		states[state]++
		zone := broker.GetZone()
		if zone == "" {
			zone = "-"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\n",
			broker.GetName(), state, zone, broker.GetPrimaries(), broker.GetCopies())
	}
	_ = w.Flush() // into the builder
	comma, s := "", "s"
	if len(resp.GetBrokers()) == 1 {
		s = ""
	}
	fmt.Fprintf(&b, "\n%d broker%s:", len(resp.GetBrokers()), s)
	for _, state := range []string{"serving", "draining", "leaving", "absent"} {
		if states[state] > 0 {
			fmt.Fprintf(&b, "%s %d %s", comma, states[state], state)
			comma = ","
		}
	}
	b.WriteByte('\n')
	if resp.GetStale() {
		b.WriteString("etcd cannot be reached: this is as it was seen last\n")
	}
	return b.String()
}

func brokerText(s adminv1.BrokerState) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "BROKER_STATE_"))
}

// standing is what a broker still has.
func standing(b *adminv1.BrokerInfo) string {
	return fmt.Sprintf("%d slots count on it, %d of them are led by it", b.GetCopies(), b.GetPrimaries())
}

// find is the same life of a broker in an answer.
func find(resp *adminv1.ListBrokersResponse, b *adminv1.BrokerInfo) *adminv1.BrokerInfo {
	for _, other := range resp.GetBrokers() {
		if other.GetName() == b.GetName() && other.GetLogId() == b.GetLogId() {
			return other
		}
	}
	return nil
}

func memberName(member string) string {
	name, _, _ := strings.Cut(member, "@")
	return name
}

// shortName is a member's name, or its end: there names differ.
func shortName(member string) string {
	name := []rune(memberName(member))
	if len(name) > maxName {
		return "…" + string(name[len(name)-maxName+1:])
	}
	return string(name)
}

func bytesText(n uint64) string {
	const units = "KMGT"
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	size, unit := float64(n)/(1<<10), 0
	for size >= 1<<10 && unit < len(units)-1 {
		size, unit = size/(1<<10), unit+1
	}
	return fmt.Sprintf("%.1f %ciB", size, units[unit])
}
