package outbox

import (
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/comet-push/comet/internal/shard"
)

// Position is up to where each channel was read; 0, which no log has: not at all.
type Position [Channels]uint64

const (
	version = 1
	offset  = 7 // bytes of one
	size    = 1 + Channels*offset
)

// errPosition says that a text is not that of a position.
var errPosition = errors.New("not a position that a watch of events gave")

// String is the position as backends keep it.
func (p Position) String() string {
	b := make([]byte, 1, size)
	b[0] = version
	for _, n := range p {
		for shift := 8 * (offset - 1); shift >= 0; shift -= 8 {
			b = append(b, byte(n>>shift))
		}
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// ParsePosition reads what String wrote.
func ParsePosition(text string) (p Position, err error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	switch {
	case err != nil || len(b) != size:
		return p, errPosition
	case b[0] != version:
		return p, fmt.Errorf("%w: of version %d, this process knows %d", errPosition, b[0], version)
	}
	for i := range p {
		for _, c := range b[1+i*offset:][:offset] {
			p[i] = p[i]<<8 | uint64(c)
		}
		if p[i] >= shard.MaxPosition {
			return p, errPosition
		}
	}
	return p, nil
}
