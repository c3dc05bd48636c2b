package comettest_test

import (
	"cmp"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var mutate = flag.Bool("mutate", false, "break rules on purpose, and demand that scenarios find it")

// mutation breaks a rule of the broker's shell, or of another service: in a file
// of it old becomes new, and a scenario has to find that.
type mutation struct {
	name     string
	service  string // empty: broker
	file     string
	old, new string
	play     []string
	finds    string
}

var mutations = []mutation{
	{
		name:  "answer publishers before the commit",
		file:  "offer.go",
		old:   "	p.waiting = append(p.waiting, x)\n",
		new:   "	x.to.put(&brokerv1.Answer{RequestId: x.req.GetRequestId(), Offset: x.offset}, 0)\n",
		play:  []string{"-test.run=TestIsolatedPrimary/from_both"},
		finds: "never came|did not come|and no resync|is not in the history|where .* was",
	},
	{
		name:  "serve reads without proof that nobody else leads",
		file:  "read.go",
		old:   "	case !p.leads(), !s.fresh(p):\n",
		new:   "	case !p.leads():\n",
		play:  []string{"-test.run=TestIsolatedPrimary/from_both"},
		finds: "a read at .* behind",
	},
	{
		name:  "go by rows from before the lease lapsed",
		file:  "rows.go",
		old:   "	lapsed := !s.renewed.IsZero() && sent.Sub(s.renewed) > s.cfg.Lease\n",
		new:   "	lapsed := false\n",
		play:  []string{"-test.run=TestUnclean/silence"},
		finds: "in a log that was given up",
	},
	{
		name:  "let nobody who failed take the only copy of who leaves",
		file:  "internal/replica/plan.go",
		old:   "	return !p.banned || leaves && ",
		new:   "	return !p.banned || false && leaves && ",
		play:  []string{"-test.run=TestLastCopies/mended_at_last"},
		finds: "slots began anew",
	},
	{
		name:  "acknowledge what too few copies hold",
		file:  "places.go",
		old:   "		if e.Few {\n",
		new:   "		if false {\n",
		play:  []string{"-test.run=TestLeastInSync/2", "-all"},
		finds: "a publish that one of two holds: <nil>",
	},
	{
		name:  "forget keys",
		file:  "offer.go",
		old:   "Key: x.req.GetIdempotencyKey(),",
		new:   "",
		play:  []string{"-test.run=TestIsolatedPrimary/from_both|TestStorm", "-storms=4"},
		finds: "landed more than once|came again",
	},
	{
		name:  "take every key for a new one",
		file:  "offer.go",
		old:   "Fresh: x.req.GetFresh(),",
		new:   "Fresh: true,",
		play:  []string{"-test.run=TestIsolatedPrimary/from_both|TestStorm", "-storms=4"},
		finds: "landed more than once|came again",
	},
	{
		name:  "leave it to heartbeats to prove what a new primary reads",
		file:  "places.go",
		old:   "	if e.Probe {\n",
		new:   "	if false {\n",
		play:  []string{"-test.run=TestReadsDuringPlannedMoves"},
		finds: "a read took",
	},
	{
		name:    "let a new first holder publish only what it hears from then on",
		service: "presence",
		file:    "internal/outbox/outbox.go",
		old:     "		if !x.gone && x.channel == c && ",
		new:     "		if false && x.channel == c && ",
		play:    []string{"-test.run=TestEventsOutliveTheirPublisher"},
		finds:   "was told \\[\\] of c",
	},
	{
		name:    "take every answer of a webhook for a yes",
		service: "presence",
		file:    "webhook.go",
		old:     "	if resp.StatusCode/100 != 2 {\n",
		new:     "	if false {\n",
		play:    []string{"-test.run=TestEventsOfSessions"},
		finds:   "witness 0 was told \\[\\] of",
	},
	{
		name:    "forget what a publish did not answer for",
		service: "presence",
		file:    "events.go",
		old:     "	e.box.Failed(x)\n",
		new:     "	e.box.Done(x)\n",
		play:    []string{"-test.run=TestEventsOutliveTheirPublisher"},
		finds:   "was told \\[\\] of",
	},
}

// TestMutations breaks one rule after the other. Every one is built anew, so it
// is done only when asked for; else only that what is to be replaced is there.
func TestMutations(t *testing.T) {
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			overlay := m.overlay(t)
			if !*mutate {
				return
			}
			args := []string{"test", "-overlay", overlay, "-count=1", "."}
			out, err := exec.Command("go", append(args, m.play...)...).CombinedOutput()
			found := regexp.MustCompile(".*(" + m.finds + ").*").Find(out)
			if err == nil || found == nil {
				t.Fatalf("not found: %v\n%s", err, out[max(0, len(out)-4000):])
			}
			t.Logf("%s", found)
		})
	}
}

// overlay returns an overlay with the rule broken.
func (m mutation) overlay(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../services", cmp.Or(m.service, "broker"), m.file))
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
	changed, overlay := filepath.Join(t.TempDir(), filepath.Base(m.file)), filepath.Join(t.TempDir(), "overlay.json")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		changed: []byte(strings.Replace(string(text), m.old, m.new, 1)), overlay: replace,
	} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return overlay
}
