package comettest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc/status"

	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/internal/shard"
)

// retained is how many messages of a channel are kept, and for how long, where
// nothing else is configured.
const (
	retained    = 100
	retainedFor = 5 * time.Minute
)

// incarnation is that of the log in which a position is. No log of a test gets
// as long as two are apart.
func incarnation(position uint64) uint64 { return position >> 21 }

// published names what was published.
type published struct {
	channel string
	n       int
}

// spot is a place in a log.
type spot struct {
	slot   shard.Slot
	offset uint64
}

// ledger is what everybody together was told about where messages are.
type ledger struct {
	at   map[spot]published
	of   map[published]map[uint64]bool
	errs []error
}

// CheckTogether compares what publishers, clients and the histories of the
// channels say, and returns every breach of the promises:
//
//  1. An offset names the same message for ever, and a message has one offset,
//     but where a log was lost.
//  2. What one publisher publishes comes in its order, as long as it knows what
//     became of it, and no read misses what was acknowledged before.
//  3. History has all that was acknowledged, as far as it is retained.
//
// It is called when publishing has ended.
func (c *Cluster) CheckTogether(publishers []*Publisher, clients []*Client) error {
	l := &ledger{at: map[spot]published{}, of: map[published]map[uint64]bool{}}
	for _, p := range publishers {
		l.fail(p.found())
		for n, position := range p.Acks() {
			l.note("its publisher", published{p.Channel, n}, position)
		}
	}
	for _, client := range clients {
		for _, r := range client.Of(Event) {
			if r.Position != 0 && r.N != 0 {
				l.note(client.Name, published{r.Channel, r.N}, r.Position)
			}
		}
	}
	brokers := c.Backend("auditor")
	for _, p := range publishers {
		l.fail(l.history(brokers, p))
	}
	for what, where := range l.of {
		var incarnations []uint64
		for position := range where {
			incarnations = append(incarnations, incarnation(position))
		}
		slices.Sort(incarnations)
		if len(slices.Compact(incarnations)) != len(where) {
			l.fail(fmt.Errorf("%s: %d landed more than once: at %v", what.channel, what.n, slices.Sorted(maps.Keys(where))))
		}
	}
	return errors.Join(l.errs...)
}

func (l *ledger) fail(err error) {
	if err != nil {
		l.errs = append(l.errs, err)
	}
}

// note notes where somebody says that a message is.
func (l *ledger) note(who string, what published, position uint64) {
	at := spot{shard.Of(what.channel), position}
	if other, known := l.at[at]; known && other != what {
		l.fail(fmt.Errorf("%s: slot %d has %s %d at %d, where %s %d was", who, at.slot, what.channel, what.n, position, other.channel, other.n))
	}
	l.at[at] = what
	if l.of[what] == nil {
		l.of[what] = map[uint64]bool{}
	}
	l.of[what][position] = true
}

// history compares a channel's history with what was acknowledged.
func (l *ledger) history(brokers []pubsubv1.PubSubServiceClient, p *Publisher) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	page, err := brokers[0].History(ctx, &pubsubv1.HistoryRequest{Channel: p.Channel, Limit: retained, Reverse: true})
	if err != nil {
		return fmt.Errorf("%s: history: %s", p.Channel, status.Convert(err).Message())
	}
	have := map[uint64]bool{}
	oldest := uint64(shard.MaxPosition)
	for _, m := range page.GetMessages() {
		l.note("the history", published{p.Channel, numberOf(m.GetData())}, m.GetPosition())
		have[m.GetPosition()] = true
		oldest = min(oldest, m.GetPosition())
	}
	young := time.Now().Add(-retainedFor + time.Second)
	for n, position := range p.Acks() {
		switch {
		case have[position], len(have) > 0 && position < oldest && incarnation(position) < incarnation(oldest):
		case len(have) == retained && position < oldest:
		case p.began(n).Before(young):
		default:
			l.fail(fmt.Errorf("%s: %d was acknowledged at %d, which is not in the history of %d messages", p.Channel, n, position, len(have)))
		}
	}
	return nil
}
