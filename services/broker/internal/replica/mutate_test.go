package replica

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestMutations reverts one rule after the other, and demands that the
// simulation finds it.
func TestMutations(t *testing.T) {
	binary := buildMutants(t)
	found := regexp.MustCompile(`seed \d+: .*`)
	play := func(t *testing.T, mutant, schedules int) []byte {
		cmd := exec.CommandContext(t.Context(), binary, "-test.run=^TestSimulation$", "-seeds="+strconv.Itoa(schedules))
		cmd.Env = append(os.Environ(), "MUTANT="+strconv.Itoa(mutant))
		out, err := cmd.CombinedOutput()
		first := found.Find(out)
		if (err == nil) != (first == nil) {
			t.Fatalf("%v\n%s", err, out)
		}
		return first
	}
	if first := play(t, len(mutations), 100); first != nil {
		t.Fatalf("without a mutation: %s", first)
	}
	turn := make(chan struct{}, 2)
	for i, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			turn <- struct{}{}
			defer func() { <-turn }()
			first := play(t, i, within+m.rare)
			if first == nil {
				t.Fatalf("not found in %d schedules", within+m.rare)
			}
			t.Logf("%s", first)
		})
	}
}

// buildMutants returns the path of this package's test with all mutations built
// in, of which the environment's MUTANT chooses one by its index.
func buildMutants(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	replace := map[string]string{}
	write := func(name, text string) {
		path, err := filepath.Abs(name)
		if err != nil {
			t.Fatal(err)
		}
		if replace[path] != "" {
			return
		}
		replace[path] = filepath.Join(dir, strconv.Itoa(len(replace))+".go")
		if err := os.WriteFile(replace[path], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files := map[string]*mutated{}
	for i, m := range mutations {
		f := files[m.file]
		if f == nil {
			f = newMutated(t, m.file)
			files[m.file] = f
		}
		f.add(t, i, m)
	}
	for name, f := range files {
		write(name, f.text())
		write(filepath.Join(filepath.Dir(name), "mutant.go"),
			"package "+f.source.ast.Name.Name+"\n\nimport \"os\"\n\nvar mutant = os.Getenv(\"MUTANT\")\n")
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	name, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "replica.test")
	if err := os.WriteFile(name, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-c", "-overlay", name, "-vet=off", "-ldflags=-s -w", "-o", binary, ".")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	return binary
}

// mutated is a file with mutations: beside each function that one changes stands
// the changed one, which the function calls instead if it is to.
type mutated struct {
	source source
	calls  map[int][]string // by offset, at the beginning of a function's body
	more   strings.Builder
}

// source is a file's text and what it declares.
type source struct {
	name, code string
	ast        *ast.File
	funcs      map[string]*ast.FuncDecl
}

func parse(t *testing.T, name, code string) source {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, code, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	s := source{name, code, file, map[string]*ast.FuncDecl{}}
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok {
			key := f.Name.Name
			if f.Recv != nil {
				key = s.of(f.Recv.List[0].Type) + "." + key
			}
			s.funcs[key] = f
		}
	}
	return s
}

// of is the text of a node. (A file that is parsed alone begins at 1.)
func (s source) of(n ast.Node) string { return s.code[n.Pos()-1 : n.End()-1] }

func newMutated(t *testing.T, name string) *mutated {
	t.Helper()
	code, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return &mutated{source: parse(t, name, string(code)), calls: map[int][]string{}}
}

// add adds a mutation.
func (f *mutated) add(t *testing.T, index int, m mutation) {
	t.Helper()
	if n := strings.Count(f.source.code, m.old); n != 1 {
		t.Fatalf("%s: %s has the text to replace %d times: %q", m.name, m.file, n, m.old)
	}
	changed := parse(t, m.file, strings.Replace(f.source.code, m.old, m.new, 1))
	for key, decl := range changed.funcs {
		before := f.source.funcs[key]
		switch {
		case before == nil:
			t.Fatalf("%s: a new function: %s", m.name, key)
		case f.source.of(before) == changed.of(decl):
			continue
		}
		other := decl.Name.Name + "Mutant" + strconv.Itoa(index)
		fmt.Fprintf(&f.more, "\n%s%s%s\n", changed.code[decl.Pos()-1:decl.Name.Pos()-1], other, changed.code[decl.Name.End()-1:decl.End()-1])
		at := int(before.Body.Lbrace)
		f.calls[at] = append(f.calls[at], fmt.Sprintf("\n	if mutant == %q {\n%s\n	}", strconv.Itoa(index), call(before, other)))
	}
}

// call is the statement by which a function does what another one does.
func call(f *ast.FuncDecl, other string) string {
	var args []string
	for _, field := range f.Type.Params.List {
		for _, name := range field.Names {
			args = append(args, name.Name)
		}
	}
	stmt := other + "(" + strings.Join(args, ", ") + ")"
	if f.Recv != nil {
		stmt = f.Recv.List[0].Names[0].Name + "." + stmt
	}
	if f.Type.Results == nil {
		return stmt + "; return"
	}
	return "return " + stmt
}

func (f *mutated) text() string {
	code := f.source.code
	for _, at := range slices.Backward(slices.Sorted(maps.Keys(f.calls))) {
		code = code[:at] + strings.Join(f.calls[at], "") + code[at:]
	}
	return code + f.more.String()
}
