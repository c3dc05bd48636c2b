package config

import (
	"fmt"
	"time"
)

const never = "never"

// OrNever is the time after which something happens, written as 30s; never, or
// 0, if it does not.
type OrNever time.Duration

// Set implements [pflag.Value].
func (o *OrNever) Set(text string) error {
	if text == never {
		*o = 0
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return fmt.Errorf("%q is neither a duration nor never; write for example 30s", text)
	}
	*o = OrNever(d)
	return nil
}

// String implements [pflag.Value].
func (o *OrNever) String() string {
	if *o == 0 {
		return never
	}
	return time.Duration(*o).String()
}

// Type implements [pflag.Value].
func (*OrNever) Type() string { return "duration" }
