package load

import (
	"strings"
	"testing"
	"time"
)

func TestToolWarns(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		name string
		used usage
		want []string
	}{
		{"light", usage{at: 10 * s, self: s, server: 2 * s, machine: machine{busy: 3 * s, all: 20 * s}}, nil},
		{"busy worker", usage{at: 10 * s, self: 9 * s, busiest: 9 * s, machine: machine{busy: 9 * s, all: 80 * s}}, []string{"busy 90 %"}},
		{"nothing left", usage{at: 10 * s, self: 5 * s, server: 14 * s, machine: machine{busy: 19 * s, all: 20 * s}}, []string{"used 83 %"}},
		{"machine full of others", usage{at: 10 * s, self: s / 10, server: s, machine: machine{busy: 20 * s, all: 20 * s}}, []string{"used 1.9 of"}},
		{"nothing known of the machine", usage{at: 10 * s, self: 10 * s}, nil},
	} {
		tool, warnings := tt.used.tool()
		if len(warnings) != len(tt.want) || tool.CPUSeconds != tt.used.self.Seconds() {
			t.Errorf("%s: %+v %q, want %q", tt.name, tool, warnings, tt.want)
			continue
		}
		for i := range tt.want {
			if !strings.Contains(warnings[i], tt.want[i]) {
				t.Errorf("%s: %q, want %q", tt.name, warnings[i], tt.want[i])
			}
		}
	}
}
