package namespace

import (
	"fmt"
	"strings"
)

// checkPattern accepts literal channels and patterns.
func checkPattern(p string) error {
	segments, ok := strings.CutPrefix(p, "/")
	if !ok || segments == "" {
		return fmt.Errorf("%q is not a channel or pattern; it begins with a slash, for example /ticker/**", p)
	}
	list := strings.Split(segments, "/")
	for i, s := range list {
		if s == "" || strings.Contains(s, "*") && s != "*" && (s != "**" || i < len(list)-1) {
			return fmt.Errorf("%q is not a channel or pattern; * stands for one whole segment, ** ends a pattern", p)
		}
	}
	if list[0] == "meta" {
		return fmt.Errorf("%q: /meta channels have no options", p)
	}
	return nil
}

// matches reports whether a literal channel is among those of a pattern.
func matches(pattern, channel string) bool { return covers(pattern, channel) }

// covers reports whether every channel of the narrow pattern (or literal) is
// one of the wide.
func covers(wide, narrow string) bool {
	if reserved(narrow) != reserved(wide) {
		return false
	}
	for {
		var w, n string
		w, wide = next(wide)
		n, narrow = next(narrow)
		switch {
		case w == "**":
			return n != ""
		case w == "" || n == "":
			return w == n
		case n == "**", w != "*" && w != n:
			return false
		}
	}
}

// overlap reports whether some channel belongs to both patterns (or literals).
func overlap(a, b string) bool {
	if reserved(a) != reserved(b) {
		return false
	}
	for {
		var x, y string
		x, a = next(a)
		y, b = next(b)
		switch {
		case x == "" || y == "":
			return x == y
		case x == "**" || y == "**":
			return true
		case x != "*" && y != "*" && x != y:
			return false
		}
	}
}

// reserved reports whether a name is under /service, which wildcards in the
// first place do not reach.
func reserved(name string) bool { return strings.HasPrefix(name, "/service/") }

// next cuts the first segment off.
func next(path string) (segment, rest string) {
	path = strings.TrimPrefix(path, "/")
	if i := strings.IndexByte(path, '/'); i >= 0 {
		return path[:i], path[i:]
	}
	return path, ""
}
