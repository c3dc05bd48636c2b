package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes, written as 512KiB, 1MiB, 2GiB or 1048576.
type Size int

//nolint:gochecknoglobals // a constant, if Go had such
var units = []struct {
	name  string
	bytes int
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// Set implements [pflag.Value].
func (s *Size) Set(text string) error {
	number, factor := strings.TrimSpace(text), 1
	for _, u := range units {
		if rest, ok := strings.CutSuffix(number, u.name); ok {
			number, factor = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 || n > math.MaxInt/factor {
		return fmt.Errorf("%q is not a size; write for example 512KiB or 1MiB", text)
	}
	*s = Size(n * factor)
	return nil
}

// String implements [pflag.Value].
func (s *Size) String() string {
	n := int(*s)
	for _, u := range units {
		if n != 0 && n%u.bytes == 0 && u.bytes > 1 {
			return strconv.Itoa(n/u.bytes) + u.name
		}
	}
	return strconv.Itoa(n)
}

// Type implements [pflag.Value].
func (*Size) Type() string { return "size" }
