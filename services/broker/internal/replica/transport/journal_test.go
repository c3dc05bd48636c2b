package transport_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/replica"
	"github.com/comet-push/comet/services/broker/internal/replica/transport"
)

// journal is a handler that writes down what it hears, as "up z@1" and the
// like, and checks that a mesh keeps its word.
type journal struct {
	t *testing.T

	mu      sync.Mutex
	lines   []string
	up      map[string]bool
	inside  map[string]bool
	sends   map[string]int // numbers sent by tell, per member and slot
	heard   map[string]int // and received
	gaps    bool           // numbers may be missing
	receive func(member string, slot shard.Slot, m replica.Message)
}

func newJournal(t *testing.T) *journal {
	t.Helper()
	return &journal{
		t: t, up: map[string]bool{}, inside: map[string]bool{}, sends: map[string]int{}, heard: map[string]int{},
	}
}

// enter begins a call; what it returns ends it.
func (j *journal) enter(member, line string, isUp bool) (leave func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.inside[member] {
		j.t.Errorf("two calls for %s at once", member)
	}
	if j.up[member] != isUp {
		j.t.Errorf("%s while it is up: %v", line, j.up[member])
	}
	j.inside[member] = true
	j.lines = append(j.lines, line)
	return func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.inside[member] = false
	}
}

func (j *journal) set(member string, up bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.up[member] = up
}

func (j *journal) Up(member string) {
	defer j.enter(member, "up "+member, false)()
	j.set(member, true)
}

func (j *journal) Down(member string) {
	defer j.enter(member, "down "+member, true)()
	j.set(member, false)
}

func (j *journal) Receive(member string, slot shard.Slot, m replica.Message) {
	line := fmt.Sprintf("%T %s", m, member)
	if l, ok := m.(*replica.Leave); ok { // of tell
		line = fmt.Sprintf("told %s %d", member, l.Term)
		j.told(member, slot, int(l.Term))
	}
	defer j.enter(member, line, true)()
	j.mu.Lock()
	then := j.receive
	j.mu.Unlock()
	if then != nil {
		then(member, slot, m)
	}
}

func (j *journal) Heard(member string, sent time.Time) {
	defer j.enter(member, "heard "+member, true)()
	if age := time.Since(sent); age < 0 {
		j.t.Errorf("a ping of %s was sent in %v", member, -age)
	}
}

// then says what to do with messages.
func (j *journal) then(receive func(member string, slot shard.Slot, m replica.Message)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.receive = receive
}

// tell sends the next number in a slot; told checks that they come in order.
func (j *journal) tell(m *transport.Mesh, member string, slot shard.Slot) {
	j.mu.Lock()
	key := fmt.Sprint(member, "/", slot)
	j.sends[key]++
	number := j.sends[key]
	j.mu.Unlock()
	m.Send(member, slot, &replica.Leave{Term: uint64(number)})
}

func (j *journal) told(member string, slot shard.Slot, number int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	key := fmt.Sprint(member, "/", slot)
	if before := j.heard[key]; number <= before || number > before+1 && !j.gaps {
		j.t.Errorf("%s says %d in slot %d after %d", member, number, slot, before)
	}
	j.heard[key] = number
}

// total is how many numbers were received.
func (j *journal) total() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	total := 0
	for _, n := range j.heard {
		total += n
	}
	return total
}

// story is what was heard but for heartbeats.
func (j *journal) story() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(j.lines), func(l string) bool { return strings.HasPrefix(l, "heard") })
}

// beats is how many heartbeats were heard.
func (j *journal) beats() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(slices.DeleteFunc(slices.Clone(j.lines), func(l string) bool { return !strings.HasPrefix(l, "heard") }))
}

// want compares the story, once all is quiet.
func (j *journal) want(lines ...string) {
	j.t.Helper()
	synctest.Wait()
	if got := j.story(); !slices.Equal(got, lines) {
		j.t.Fatalf("heard\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(lines, "\n\t"))
	}
}

// ended wants so many streams to have ended for a reason.
func (m *member) ended(t *testing.T, why transport.Reason, want int) {
	t.Helper()
	if got := m.ends(t, why); got != want {
		t.Errorf("%s: %d streams ended as %s, want %d", m.node.Member(), got, why, want)
	}
}

// ends is how many streams have ended for a reason.
func (m *member) ends(t *testing.T, why transport.Reason) int {
	t.Helper()
	synctest.Wait()
	all, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range all {
		for _, metric := range family.GetMetric() {
			if family.GetName() == "comet_broker_replication_ends_total" && metric.GetLabel()[0].GetValue() == string(why) {
				return int(metric.GetCounter().GetValue())
			}
		}
	}
	t.Fatalf("%s are not counted", why)
	return 0
}
