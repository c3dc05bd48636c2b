// Command skips lists the tests that were skipped, with their reasons, out of
// files that go test -json wrote. With -mode forbid it fails if there are any.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
)

// event is a line of go test -json.
type event struct {
	Action, Package, Test, Output string
}

func main() {
	mode := flag.String("mode", "allow", "allow or forbid")
	flag.Parse()
	skipped, err := read(flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "skips:", err)
		os.Exit(1)
	}
	if len(skipped) == 0 {
		fmt.Println("\nNo test was skipped.")
		return
	}
	fmt.Printf("\n%d skipped, and what would enable them:\n", len(skipped))
	for _, line := range skipped {
		fmt.Println("  " + line)
	}
	if *mode == "forbid" {
		fmt.Println("SKIP=forbid: a skipped test is a failure.")
		os.Exit(1)
	}
}

// read returns one line for each skipped test of the files.
func read(files []string) ([]string, error) {
	var skipped []string
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		lines, err := scan(f)
		_ = f.Close() // only read from
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		skipped = append(skipped, lines...)
	}
	slices.Sort(skipped)
	return skipped, nil
}

// scan returns the skipped tests of one file; the reason is the last line that
// the test printed before it was skipped.
func scan(f *os.File) ([]string, error) {
	var skipped []string
	reasons := map[string]string{}
	in := bufio.NewScanner(f)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var e event
		if json.Unmarshal(in.Bytes(), &e) != nil || e.Test == "" {
			continue // not a line of go test, or of a whole package
		}
		id := e.Package + " " + e.Test
		switch out := strings.TrimSpace(e.Output); {
		case e.Action == "skip":
			skipped = append(skipped, id+": "+reasons[id])
		case e.Action == "output" && out != "" && !strings.HasPrefix(out, "---") && !strings.HasPrefix(out, "==="):
			reasons[id] = out
		}
	}
	return skipped, in.Err()
}
