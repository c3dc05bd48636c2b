package replica

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// mutation reverts a rule of CORRECTNESS: in file old becomes new, and the
// simulation must find what that loses within the given number of schedules.
type mutation struct {
	name     string
	file     string
	old, new string
	seeds    string
}

// mutations are the holes of CORRECTNESS that this machine could have, by its
// numbers, and some more.
var mutations = []mutation{
	{
		name:  "1 cut to the commit mark in a new term",
		file:  "backup.go",
		old:   "	r.leader = leader{name: from, round: m.Round}\n	out.send(from, &State",
		new:   "	_ = r.log.Cut(r.commit)\n	r.leader = leader{name: from, round: m.Round}\n	out.send(from, &State",
		seeds: "20000",
	},
	{
		name:  "2 same name, empty memory",
		file:  "simnode_test.go",
		old:   "		n.logID++\n",
		new:   "		n.logID = 1\n",
		seeds: "20000",
	},
	{
		name:  "2 drop a log without asking whether it counts",
		file:  "backup.go",
		old:   `	case r.leader.name == "" && r.term > r.born:`,
		new:   `	case true:`,
		seeds: "30000",
	},
	{
		name:  "3 an add that is not answered does not count",
		file:  "lead.go",
		old:   "		visit(r.writing.Row)\n",
		new:   "",
		seeds: "20000",
	},
	{
		name:  "3 an add of which the answer was lost does not count",
		file:  "lead.go",
		old:   "	for _, row := range r.unsure {\n		visit(row)\n	}\n",
		new:   "",
		seeds: "30000",
	},
	{
		name:  "3 a removal counts when it is sent",
		file:  "lead.go",
		old:   "	visit(r.row)\n",
		new:   "	if r.writing == nil {\n		visit(r.row)\n	}\n",
		seeds: "20000",
	},
	{
		name:  "3 add who holds what this primary committed, not what others did",
		file:  "plan.go",
		old:   "p.acked >= max(r.commit, r.lead.inherited)",
		new:   "p.acked >= r.commit",
		seeds: "30000",
	},
	{
		name:  "3 add who has not caught up",
		file:  "plan.go",
		old:   " && p.acked >= max(r.commit, r.lead.inherited)",
		new:   "",
		seeds: "20000",
	},
	{
		name:  "4 accept and acknowledge alone while cut off",
		file:  "lead.go",
		old:   "	return r.lead.alone > 0 && ",
		new:   "	return false && ",
		seeds: "20000",
	},
	{
		name:  "4 alone is who waits for nobody",
		file:  "lead.go",
		old:   "len(row.InSync) == 1 && u > 0",
		new:   "len(row.InSync) == 1 && r.writing == nil && r.unsure == nil && u > 0",
		seeds: "30000",
	},
	{
		name:  "4 give up several logs for their silence",
		file:  "simcontrol_test.go",
		old:   "len(doubtful) > 1",
		new:   "len(doubtful) > 9",
		seeds: "30000",
	},
	{
		name:  "9 marks of a primary that heard nothing",
		file:  "lead.go",
		old:   "		case p.heard.Before(asOf):\n			asOf = p.heard\n",
		new:   "",
		seeds: "20000",
	},
	{
		name:  "9 leave a term without a word",
		file:  "machine.go",
		old:   `	if r.leader.name != "" {`,
		new:   `	if false {`,
		seeds: "30000",
	},
	{
		name:  "12 acknowledge before it is synced",
		file:  "backup.go",
		old:   "	held := r.log.Held()\n",
		new:   "	held := r.log.End()\n",
		seeds: "20000",
	},
	{
		name:  "12 commit before it is synced",
		file:  "lead.go",
		old:   "	upto := r.log.Held()\n",
		new:   "	upto := r.log.End()\n",
		seeds: "20000",
	},
	{
		name:  "12 lead again in a term of an earlier life",
		file:  "lead.go",
		old:   " || r.row.Term <= r.born:",
		new:   ":",
		seeds: "30000",
	},
	{
		name:  "12 lead before the term is synced",
		file:  "lead.go",
		old:   "	if r.log.Held() == 0 {",
		new:   "	if false {",
		seeds: "30000",
	},
	{
		name:  "13 answer a duplicate at once",
		file:  "simnode_test.go",
		old:   "		if offset <= p.log.commit {\n",
		new:   "		if true {\n",
		seeds: "20000",
	},
	{
		name: "15 count silence by the clock",
		file: "machine.go",
		old:  "func (r *Replica) Tick(now time.Time, out *Effects) {\n",
		new: `func (r *Replica) Tick(now time.Time, out *Effects) {
	if r.lead != nil && !lastTick[r].IsZero() {
		for range now.Sub(lastTick[r])/(100*time.Millisecond) - 1 {
			for _, p := range r.lead.peers {
				r.tickPeer(p, out)
			}
		}
	}
	lastTick[r] = now
	r.ticked(now, out)
}

var lastTick = map[*Replica]time.Time{}

func (r *Replica) ticked(now time.Time, out *Effects) {
`,
		seeds: "20000",
	},
	{
		name:  "16 commit before all are reconciled",
		file:  "lead.go",
		old:   "		if p.waits {\n			upto",
		new:   "		if p.waits && p.joined {\n			upto",
		seeds: "20000",
	},
	{
		name:  "16 follow a lower term",
		file:  "backup.go",
		old:   "	if term < r.term {\n",
		new:   "	if false {\n",
		seeds: "20000",
	},
	{
		name:  "16 keep what the primary lacks",
		file:  "backup.go",
		old:   "	if err := r.log.Cut(m.Prev); err != nil {",
		new:   "	if err := error(nil); err != nil {",
		seeds: "20000",
	},
	{
		name:  "16 count what is acknowledged, reconciled or not",
		file:  "backup.go",
		old:   "	if l := &r.leader; l.joined && held > l.acked {",
		new:   "	if l := &r.leader; l.name != \"\" && held > l.acked {",
		seeds: "30000",
	},
	{
		name:  "30 hand over to who is desired by now, in sync or not",
		file:  "plan.go",
		old:   "	case r.lead.moving && !r.wantsMove():\n",
		new:   "	case false:\n",
		seeds: "30000",
	},
	{
		name:  "30 append with too few copies",
		file:  "lead.go",
		old:   "	case len(r.row.InSync) < r.cfg.MinInSync:\n",
		new:   "	case false:\n",
		seeds: "20000",
	},
	{
		name:  "30 remove before the replacement is in sync",
		file:  "plan.go",
		old:   "		if !slices.Contains(r.row.InSync, m) {\n",
		new:   "		if m == \"\" {\n",
		seeds: "20000",
	},
}

// TestMutations reverts one rule after the other, and demands that the
// simulation finds it.
func TestMutations(t *testing.T) {
	found := regexp.MustCompile(`seed \d+: .*`)
	turn := make(chan struct{}, 2)
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			overlay := mutate(t, m)
			turn <- struct{}{}
			defer func() { <-turn }()
			cmd := exec.Command("go", "test", "-overlay", overlay, "-run", "^TestSimulation$", "-count=1", ".", "-seeds="+m.seeds)
			out, err := cmd.CombinedOutput()
			first := found.Find(out)
			if err == nil || first == nil {
				t.Fatalf("not found in %s schedules: %v\n%s", m.seeds, err, out)
			}
			t.Logf("%s", first)
		})
	}
}

// mutate returns an overlay with one file changed.
func mutate(t *testing.T, m mutation) string {
	t.Helper()
	path, err := filepath.Abs(m.file)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), m.old); n != 1 {
		t.Fatalf("%s has the text to replace %d times: %q", m.file, n, m.old)
	}
	dir := t.TempDir()
	changed := filepath.Join(dir, filepath.Base(path))
	if err := os.WriteFile(changed, []byte(strings.Replace(string(text), m.old, m.new, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(name, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
