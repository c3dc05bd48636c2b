package bayeux

import "encoding/binary"

// scanner walks over JSON text. The first error ends it: from then on next
// returns false, and err and pos say what and where.
type scanner struct {
	in  []byte
	pos int
	err string
}

func (s *scanner) fail(detail string) {
	if s.err == "" {
		s.err = detail
	}
}

// peek skips white space and returns the byte that follows, 0 at the end.
func (s *scanner) peek() byte {
	for s.pos < len(s.in) {
		switch c := s.in[s.pos]; c {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return c
		}
	}
	return 0
}

// open consumes the byte that begins an array or object.
func (s *scanner) open(depth int) {
	if depth <= 0 {
		s.fail("nested too deeply")
		return
	}
	s.pos++
}

// next moves to the next element of an array or object and reports whether
// there is one; the closing byte end is consumed.
func (s *scanner) next(first bool, end byte) bool {
	if s.err != "" {
		return false
	}
	switch c := s.peek(); {
	case c == end:
		s.pos++
		return false
	case first:
		return true
	case c == ',':
		s.pos++
		return true
	default:
		s.fail("expected , or " + string(rune(end)))
		return false
	}
}

// key consumes the name of an object's member and the colon. It returns the
// name unescaped.
func (s *scanner) key() []byte {
	if s.peek() != '"' {
		s.fail("expected a member's name")
		return nil
	}
	start := s.pos
	escaped := s.text()
	if s.err != "" {
		return nil
	}
	name := s.in[start+1 : s.pos-1]
	if escaped {
		name = appendUnescaped(nil, name)
	}
	if s.peek() != ':' {
		s.fail("expected :")
		return nil
	}
	s.pos++
	return name
}

// value consumes one value, which may nest depth levels, and returns its text.
func (s *scanner) value(depth int) []byte {
	c := s.peek()
	start := s.pos
	switch c {
	case '{':
		s.open(depth)
		for first := true; s.next(first, '}'); first = false {
			s.key()
			if s.err == "" {
				s.value(depth - 1)
			}
		}
	case '[':
		s.open(depth)
		for first := true; s.next(first, ']'); first = false {
			s.value(depth - 1)
		}
	case '"':
		s.text()
	case 't':
		s.word("true")
	case 'f':
		s.word("false")
	case 'n':
		s.word("null")
	default:
		s.number()
	}
	if s.err != "" {
		return nil
	}
	return s.in[start:s.pos:s.pos]
}

// end reports an error unless only white space is left.
func (s *scanner) end() {
	if s.err == "" && (s.peek() != 0 || s.pos < len(s.in)) {
		s.fail("unexpected text after the value")
	}
}

func (s *scanner) word(w string) {
	if len(s.in)-s.pos < len(w) || string(s.in[s.pos:s.pos+len(w)]) != w {
		s.fail("expected a value")
		return
	}
	s.pos += len(w)
}

func (s *scanner) number() {
	if s.at() == '-' {
		s.pos++
	}
	switch c := s.at(); {
	case c == '0':
		s.pos++
	case c >= '1' && c <= '9':
		s.digits()
	default:
		s.fail("expected a value")
		return
	}
	if s.at() == '.' {
		s.pos++
		s.digits()
	}
	if c := s.at(); c == 'e' || c == 'E' {
		s.pos++
		if c := s.at(); c == '+' || c == '-' {
			s.pos++
		}
		s.digits()
	}
}

func (s *scanner) at() byte {
	if s.pos < len(s.in) {
		return s.in[s.pos]
	}
	return 0
}

func (s *scanner) digits() {
	start := s.pos
	for c := s.at(); c >= '0' && c <= '9'; c = s.at() {
		s.pos++
	}
	if s.pos == start {
		s.fail("expected a digit")
	}
}

// text consumes a string and reports whether it holds escapes.
func (s *scanner) text() (escaped bool) {
	for s.pos++; s.err == ""; {
		s.plain()
		switch c := s.at(); {
		case c == '"':
			s.pos++
			return escaped
		case c == '\\':
			escaped = true
			s.escape()
		case s.pos >= len(s.in):
			s.fail("unfinished string")
		default:
			s.fail("control character in a string")
		}
	}
	return escaped
}

// plain skips bytes that mean themselves inside a string, eight at a time: a
// byte has its high bit set in special if it is a quote, a backslash or a
// control character.
func (s *scanner) plain() {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for len(s.in)-s.pos >= 8 {
		x := binary.LittleEndian.Uint64(s.in[s.pos:])
		quote, slash := x^ones*'"', x^ones*'\\'
		special := (quote-ones)&^quote | (slash-ones)&^slash | (x-ones*' ')&^x
		if special&highs != 0 {
			break
		}
		s.pos += 8
	}
	for c := s.at(); c >= ' ' && c != '"' && c != '\\'; c = s.at() {
		s.pos++
	}
}

func (s *scanner) escape() {
	s.pos++
	switch s.at() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.pos++
	case 'u':
		s.pos++
		for range 4 {
			if !isHex(s.at()) {
				s.fail("expected four hex digits")
				return
			}
			s.pos++
		}
	default:
		s.fail("unknown escape in a string")
	}
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f'
}
