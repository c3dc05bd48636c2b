package comettest

import (
	"fmt"
	"slices"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
)

// plainReader follows one channel through the history of a client of plain
// channels.
type plainReader struct {
	*Client

	publisher *Publisher
	slot      shard.Slot
	begun     bool     // it is known where the client began
	at        uint64   // all up to here came, is excused, or lies before the beginning
	last      uint64   // where the last event of this connection is
	owed      []int    // numbers in front of that which did not come
	strays    []Record // events that are not where they were acknowledged, nor excused
}

func checkPlain(c *Client, p *Publisher) (errs []error) {
	in := &plainReader{Client: c, publisher: p, slot: shard.Of(p.Channel)}
	fail := func(at string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("client %s, %s: at %s: %w", c.Name, p.Channel, at, err))
		}
	}
	history := c.History()
	for _, r := range history {
		fail(r.At.Format("15:04:05.000"), in.see(r))
	}
	if left(history) {
		return errs
	}
	if in.begun {
		fail("the end", in.pass(shard.MaxPosition))
	}
	for _, r := range in.strays {
		fail(r.At.Format("15:04:05.000"), fmt.Errorf("%d came at %d, it was acknowledged at %d", r.N, r.Position, p.place(r.N)))
	}
	return errs
}

func (in *plainReader) see(r Record) error {
	switch {
	case r.Kind == Asked:
		return in.connect(r.Cursor)
	case r.Kind == Event && r.Channel == in.publisher.Channel:
		return in.event(r)
	case r.Kind == Resync:
		return in.excuse(r)
	case r.Kind == Passed, r.Kind == Ended:
		return in.passCursor(r.Cursor)
	}
	return nil
}

// position is where a cursor stands in the channel's slot. There are ends of
// streams without a cursor, and words for what has not begun.
func (in *plainReader) position(cursor string) (at uint64, ok bool, err error) {
	if cursor == "" || cursor == shard.Latest {
		return 0, false, nil
	}
	all, err := shard.ParseCursor(in.Channels, cursor)
	if err != nil {
		return 0, false, fmt.Errorf("cursor %q: %w", cursor, err)
	}
	return all[in.slot], true, nil
}

// connect begins a connection.
func (in *plainReader) connect(cursor string) error {
	at, ok, err := in.position(cursor)
	if in.begun = ok; ok {
		in.at = at
	}
	in.last, in.owed = 0, nil
	return err
}

func (in *plainReader) event(r Record) error {
	if !in.begun {
		return fmt.Errorf("%d came before it was said where the stream begins", r.N)
	}
	before := max(in.at, in.last)
	if r.Position <= before {
		return fmt.Errorf("%d came again or too late: it is at %d, behind %d already", r.N, r.Position, before)
	}
	skipped := in.publisher.between(before, r.Position-1)
	in.last = r.Position
	if where := in.publisher.place(r.N); where != 0 && where != r.Position && !in.publisher.Retried(r.N) {
		in.strays = append(in.strays, r)
	}
	if len(skipped) > 0 && scalar(in.Channels) {
		return fmt.Errorf("%d came where %d was due, and no resync", r.N, skipped[0])
	}
	in.owed = append(in.owed, skipped...)
	return nil
}

// excuse notes that the channel may be lost up to a resync's cursor.
func (in *plainReader) excuse(r Record) error {
	if !bayeux.Match(r.Channel, in.publisher.Channel) {
		return nil
	}
	at, ok, err := in.position(r.Cursor)
	switch {
	case err != nil:
		return err
	case !ok || !in.begun:
		return fmt.Errorf("a resync at cursor %q, before there was anything to lose", r.Cursor)
	}
	in.advance(at)
	in.strays = slices.DeleteFunc(in.strays, func(stray Record) bool { return stray.Position <= at })
	return nil
}

// advance notes that nothing up to a position is due any more.
func (in *plainReader) advance(at uint64) {
	in.at = max(in.at, at)
	in.owed = slices.DeleteFunc(in.owed, func(n int) bool { return in.publisher.place(n) <= at })
}

func (in *plainReader) passCursor(cursor string) error {
	at, ok, err := in.position(cursor)
	if err != nil || !ok {
		return err
	}
	if !in.begun {
		in.begun, in.at = true, at
		return nil
	}
	return in.pass(at)
}

// pass notes that all up to a position should have come.
func (in *plainReader) pass(at uint64) error {
	missing := slices.DeleteFunc(slices.Clone(in.owed), func(n int) bool { return in.publisher.place(n) > at })
	missing = append(missing, in.publisher.between(max(in.at, in.last), at)...)
	in.advance(at)
	if len(missing) > 0 {
		return fmt.Errorf("%v did not come in front of cursor %d, and no resync", missing, at)
	}
	return nil
}
