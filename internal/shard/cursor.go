package shard

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// MaxCursorBytes is the longest cursor there is.
const MaxCursorBytes = 6 << 10

// The words that stand for a cursor.
const (
	// Earliest is the place before everything that is retained.
	Earliest = "earliest"
	// Latest is the place after everything there is now.
	Latest = "latest"
)

// ErrCursor is returned for a cursor that is not well formed, or was made for
// other channels.
var ErrCursor = errors.New("the cursor is not well formed or belongs to other channels")

// Since is where a reader of some channels starts. The zero Since is Latest.
type Since struct {
	// Earliest: all that is retained, without a resync.
	Earliest bool
	// At are the positions read so far, for every slot of the channels; nil
	// with Earliest and Latest.
	At map[Slot]uint64
}

// ParseSince reads a cursor of these channels, "earliest", or "latest", which
// an empty text means too.
func ParseSince(channels []string, text string) (Since, error) {
	switch text {
	case "", Latest:
		return Since{}, nil
	case Earliest:
		return Since{Earliest: true}, nil
	}
	at, err := ParseCursor(channels, text)
	return Since{At: at}, err
}

// SlotsOf returns the slots that messages of the given channels and patterns
// can be in, in order: for a pattern all of them.
func SlotsOf(channels []string) []Slot {
	var slots []Slot
	for _, c := range channels {
		if isPattern(c) {
			return allSlots()
		}
		slots = append(slots, Of(c))
	}
	slices.Sort(slots)
	return slices.Compact(slots)
}

// FormatCursor writes down a place in some channels: for one literal channel
// its position, a decimal number; otherwise "~" and the base64url form of
//
//	version (1 byte), hash of the channels (4 bytes), lowest position (uvarint),
//	for every slot of the channels, in order: position - lowest (uvarint)
//
// A slot that is missing stands at 0, which is always too old.
func FormatCursor(channels []string, at map[Slot]uint64) string {
	set := channelSet(channels)
	slots := SlotsOf(set)
	if isScalar(set) {
		return strconv.FormatUint(at[slots[0]], 10)
	}
	lowest := uint64(MaxPosition)
	for _, s := range slots {
		lowest = min(lowest, at[s])
	}
	b := make([]byte, 0, 5+binary.MaxVarintLen64*(1+len(slots)))
	b = append(b, cursorVersion)
	b = binary.BigEndian.AppendUint32(b, hashOf(set))
	b = binary.AppendUvarint(b, lowest)
	for _, s := range slots {
		b = binary.AppendUvarint(b, at[s]-lowest)
	}
	return "~" + base64.RawURLEncoding.EncodeToString(b)
}

// ParseCursor reads what FormatCursor wrote for the same channels, in any
// order. It does not say whether the place can still be read from. Errors wrap
// ErrCursor.
func ParseCursor(channels []string, text string) (map[Slot]uint64, error) {
	set := channelSet(channels)
	slots := SlotsOf(set)
	switch {
	case len(set) == 0 || len(text) > MaxCursorBytes:
		return nil, ErrCursor
	case isScalar(set):
		position, err := parsePosition(text)
		if err != nil {
			return nil, err
		}
		return map[Slot]uint64{slots[0]: position}, nil
	}
	encoded, ok := strings.CutPrefix(text, "~")
	if !ok {
		return nil, fmt.Errorf("%w: several channels or a pattern take one that begins with ~", ErrCursor)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || len(b) < 5 || b[0] != cursorVersion {
		return nil, ErrCursor
	}
	if binary.BigEndian.Uint32(b[1:5]) != hashOf(set) {
		return nil, fmt.Errorf("%w: it was made for other channels", ErrCursor)
	}
	return parseVector(slots, b[5:])
}

const cursorVersion = 1

func parseVector(slots []Slot, b []byte) (map[Slot]uint64, error) {
	lowest, n := binary.Uvarint(b)
	if n <= 0 || lowest >= MaxPosition {
		return nil, ErrCursor
	}
	at := make(map[Slot]uint64, len(slots))
	for _, s := range slots {
		b = b[n:]
		var above uint64
		above, n = binary.Uvarint(b)
		if n <= 0 || above >= MaxPosition-lowest {
			return nil, ErrCursor
		}
		at[s] = lowest + above
	}
	if len(b) != n {
		return nil, ErrCursor
	}
	return at, nil
}

// parsePosition takes any number of up to 16 digits: one that is no position
// is well formed too, and answered like one of the future.
func parsePosition(text string) (uint64, error) {
	if len(text) < 1 || len(text) > 16 || strings.Trim(text, "0123456789") != "" {
		return 0, fmt.Errorf("%w: one channel takes a decimal position of up to 16 digits", ErrCursor)
	}
	position, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, ErrCursor
	}
	return position, nil
}

// hashOf binds a cursor to its channels, and to the number of slots.
func hashOf(set []string) uint32 {
	h := xxhash.NewWithSeed(Slots)
	for _, c := range set {
		_, _ = h.WriteString(c)
		_, _ = h.Write([]byte{0})
	}
	return uint32(h.Sum64())
}

// channelSet returns the channels sorted and without repetition.
func channelSet(channels []string) []string {
	set := slices.Sorted(slices.Values(channels))
	return slices.Compact(set)
}

func isScalar(set []string) bool { return len(set) == 1 && !isPattern(set[0]) }

func isPattern(channel string) bool {
	return strings.HasSuffix(channel, "/*") || strings.HasSuffix(channel, "/**")
}

func allSlots() []Slot {
	slots := make([]Slot, Slots)
	for i := range slots {
		slots[i] = Slot(i)
	}
	return slots
}
