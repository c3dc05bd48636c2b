package holder

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// mutation reverts a rule of CORRECTNESS: the expression is, behind after in a
// file, becomes another, and the simulation must find what that loses.
type mutation struct {
	name      string
	file      string
	after, is string
	not       string
	rare      int // within how many more schedules it is found; 0: none
}

// within is how many schedules that may take.
const within = 300

const homeDir = "../../../../internal/home/"

// mutations are the holes that these machines could have, by their numbers in
// CORRECTNESS.
var mutations = []mutation{
	{"6 adopt with every request", homeDir + "seat.go", "return ", `own.settle.times >= times && (s.moved == 0 || now.UnixNano()-s.moved >= int64(pause))`, `true`, 0},
	{"7 numbers of two lives meet", homeDir + "doc.go", "if ", `exact`, `true`, 0},
	{"8 answer before all edges were heard", "claim.go", "case ", `!h.ready(s)`, `false`, 0},
	{"8 answer though another is the first holder", "claim.go", "case ", `!h.first.has(s)`, `false`, 0},
	{"8 believe what was heard before it was no holder", "holder.go", "!ok || ", `is.Since != p.Since`, `false`, 1200},
	{"8 ask nobody again for what was missed", "holder.go", "if ", `e.said.has(s)`, `false`, 0},
	{"17 take before the claim", homeDir + "move.go", "m.to(", `Step{Do: ClaimIt, Edge: edge, Generation: g}`, `Step{Do: Take, Edge: edge, Generation: g.Next(g.Epoch)}`, 0},
	{"17 hand over once", homeDir + "seat.go", "if !g.After(s.gen) || ", `s.left() != nil && s.left().gen.After(g)`, `s.left() != nil`, 0},
	{"17 forget who had it before a claim that came to nothing", "claim.go", "if ", `r.claim != nil`, `false`, 0},
	{"17 drop a claim that is not installed yet", "feed.go", "if r.home == f.edge && ", `r.claim == nil`, `true`, 1000},
	{"17 go on after the hand-over", homeDir + "seat.go", "Serves() bool { return ", `s.left() == nil`, `true`, 0},
	{"17 take the end of a copy that was given away for the end of all", "feed.go", "case ", `reason == Moved`, `false`, 3000},
	{"18 a grace for all", "holder.go", "r.home.lost.Add(", `max(r.adoptable, h.cfg.Grace)`, `h.cfg.Grace`, 0},
	{"18 wait for all as long as for their records", "away.go", "if ", `now.Before(at)`, `true`, 0},
	{"18 show nobody again who was lost", "away.go", "if h.forgive(r, sub.channel) && ", `h.isFirst(r)`, `false`, 0},
	{"19 bring back who is over", "feed.go", "h.tombs[id]; ", `over && !st.Generation.After(t.generation)`, `over && false`, 0},
	{"19 a zombie announces without a claim", "feed.go", "st.Generation != r.generation || ", `r.home != f.edge`, `r.home.member != f.edge.member`, 0},
}

// TestMutations reverts one rule after the other, and demands that the
// simulation finds it.
func TestMutations(t *testing.T) {
	binary := buildMutants(t)
	found := regexp.MustCompile(`seed \d+: .*`)
	for i, m := range append(mutations, mutation{name: "none"}) {
		t.Run(m.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), binary, "-test.run=^TestSimulation$", "-seeds="+strconv.Itoa(within+m.rare))
			cmd.Env = append(os.Environ(), "MUTANT="+strconv.Itoa(i))
			out, err := cmd.CombinedOutput()
			first := found.Find(out)
			if (err == nil) != (first == nil) {
				t.Fatalf("%v\n%s", err, out)
			}
			if is, want := first != nil, i < len(mutations); is != want {
				t.Fatalf("found %q in %d schedules", first, within+m.rare)
			}
			t.Logf("%s", first)
		})
	}
}

// buildMutants returns the path of this package's test with all mutations built
// in, of which the environment's MUTANT chooses one by its index.
func buildMutants(t *testing.T) string {
	t.Helper()
	dir, replace, texts := t.TempDir(), map[string]string{}, map[string]string{}
	write := func(path, text string) {
		abs, err := filepath.Abs(path)
		if err != nil {
			t.Fatal(err)
		}
		replace[abs] = filepath.Join(dir, strconv.Itoa(len(replace))+".go")
		if err := os.WriteFile(replace[abs], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i, m := range mutations {
		if texts[m.file] == "" {
			text, err := os.ReadFile(m.file)
			if err != nil {
				t.Fatal(err)
			}
			texts[m.file] = string(text)
		}
		if n := strings.Count(texts[m.file], m.after+m.is); n != 1 {
			t.Fatalf("%s: %s has the text to replace %d times: %q", m.name, m.file, n, m.after+m.is)
		}
		texts[m.file] = strings.Replace(texts[m.file], m.after+m.is, fmt.Sprintf("%smutate(%d, %s, %s)", m.after, i, m.is, m.not), 1)
	}
	for file, text := range texts {
		write(file, text)
	}
	for path, name := range map[string]string{"mutate.go": "holder", homeDir + "mutate.go": "home"} {
		write(path, "package "+name+`

import (
	"os"
	"strconv"
)

var mutant, _ = strconv.Atoi(os.Getenv("MUTANT"))

func mutate[T any](index int, is, not T) T {
	if mutant == index {
		return not
	}
	return is
}
`)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	name, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "holder.test")
	if err := os.WriteFile(name, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-c", "-overlay", name, "-vet=off", "-ldflags=-s -w", "-o", binary, ".")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	return binary
}
