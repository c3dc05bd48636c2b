package load

import (
	"bytes"
	"fmt"
)

// maxPiece bounds what is kept of one message, or of one reply.
const maxPiece = 16 << 20

// pieces puts together what arrives in parts, and copies only that.
type pieces struct{ held []byte }

// whole takes a part and returns everything since the last whole, if the part
// is the last. The result is good until the next call.
func (p *pieces) whole(part []byte, last bool) ([]byte, error) {
	if last && len(p.held) == 0 {
		return part, nil
	}
	if len(p.held)+len(part) > maxPiece {
		return nil, fmt.Errorf("the server sent over %d bytes without an end", maxPiece)
	}
	p.held = append(p.held, part...)
	if !last {
		return nil, nil
	}
	text := p.held
	p.held = nil
	return text, nil
}

// line takes text and returns the first line that is complete with it, without
// its end, and what is behind it, to be given next. more is false if there is
// none: the text is kept.
func (p *pieces) line(text []byte) (line, rest []byte, more bool, err error) {
	line, rest, found := bytes.Cut(text, []byte("\n"))
	if !found {
		if len(text) > 0 {
			_, err = p.whole(text, false)
		}
		return nil, nil, false, err
	}
	line, err = p.whole(line, true)
	return line, rest, err == nil, err
}
