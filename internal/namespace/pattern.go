package namespace

import (
	"fmt"
	"strings"

	"github.com/comet-push/comet/bayeux"
)

// checkPattern accepts literal channels and patterns.
func checkPattern(p string) error {
	if err := bayeux.ParseChannel(p); err != nil {
		return fmt.Errorf("%w; want a channel or pattern, for example /ticker/**", err)
	}
	if bayeux.IsMeta(p) {
		return fmt.Errorf("%q: /meta channels have no options", p)
	}
	if _, roster := bayeux.RosterOf(p); roster {
		return fmt.Errorf("%q: channels under /presence have no options; those of the channel count of whom they tell", p)
	}
	if bayeux.IsPrivate(p) {
		return fmt.Errorf("%q: names that begin with /@ are reserved", p)
	}
	return nil
}

// covers reports whether every channel of the narrow pattern (or literal) is
// one of the wide.
func covers(wide, narrow string) bool {
	if wide == narrow || !bayeux.IsPattern(narrow) {
		return bayeux.Match(wide, narrow)
	}
	w, deep := cut(wide)
	n, _ := cut(narrow)
	return deep && below(w, n)
}

// overlap reports whether some channel belongs to both patterns (or literals).
func overlap(a, b string) bool {
	switch {
	case !bayeux.IsPattern(a):
		return a == b || bayeux.Match(b, a)
	case !bayeux.IsPattern(b):
		return bayeux.Match(a, b)
	}
	x, xDeep := cut(a)
	y, yDeep := cut(b)
	return x == y || xDeep && below(x, y) || yDeep && below(y, x)
}

// cut splits a pattern into what its channels begin with and whether they may
// have more than one segment after it.
func cut(pattern string) (prefix string, deep bool) {
	return strings.TrimRight(pattern, "*"), strings.HasSuffix(pattern, "**")
}

// below reports whether a prefix is under another, with the exception that
// wildcards in the first place reach neither /service nor what is private.
func below(upper, lower string) bool {
	return strings.HasPrefix(lower, upper) && (upper != "/" || bayeux.IsBroadcast(lower))
}
