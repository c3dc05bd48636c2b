package bayeux

// Limits bound what Decode accepts. A zero field stands for its default.
type Limits struct {
	Bytes         int // of the document
	Messages      int // in the document
	Depth         int // of nesting, the message itself being 1
	ChannelBytes  int // of a channel's name
	Segments      int // of a channel's name
	TextBytes     int // of an id, a clientId and other short texts
	Subscriptions int // channels in one subscription, entries of a replay map
}

// DefaultLimits returns the limits that hold unless configured otherwise.
func DefaultLimits() Limits {
	return Limits{
		Bytes:         1 << 20,
		Messages:      1000,
		Depth:         64,
		ChannelBytes:  256,
		Segments:      32,
		TextBytes:     256,
		Subscriptions: 1000,
	}
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	return Limits{
		Bytes:         either(l.Bytes, d.Bytes),
		Messages:      either(l.Messages, d.Messages),
		Depth:         either(l.Depth, d.Depth),
		ChannelBytes:  either(l.ChannelBytes, d.ChannelBytes),
		Segments:      either(l.Segments, d.Segments),
		TextBytes:     either(l.TextBytes, d.TextBytes),
		Subscriptions: either(l.Subscriptions, d.Subscriptions),
	}
}

func either(n, fallback int) int {
	if n > 0 {
		return n
	}
	return fallback
}
