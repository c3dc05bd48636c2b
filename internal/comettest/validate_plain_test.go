package comettest

import (
	"strconv"
	"strings"
	"testing"

	"github.com/comet-push/comet/internal/shard"
)

// TestCheckPlain does as TestCheck for clients of plain channels.
func TestCheckPlain(t *testing.T) {
	published := &Publisher{Publishing: Publishing{Channel: "/a/x"}, acked: 9, retried: map[int]bool{3: true}}
	for n := range uint64(9) {
		published.placed = append(published.placed, 10*(n+1))
		published.acks = append(published.acks, ack{int(n + 1), 10 * (n + 1)})
	}
	one, all := []string{"/a/x"}, []string{"/a/*", "/b"}
	// Of a history, a word that begins with
	//   ?  asks with the cursor of a number, or without one
	//   =  says that all came up to there
	//   !  loses the channel up to there, !b another one
	//   l  leaves
	// and a number is an event; 3@25 is one that is not at 30.
	for _, tt := range []struct {
		channels      []string
		history, want string
	}{
		{one, "? =2 3 4 5 6 7 8 9", ""},
		{one, "? 3", "3 came before it was said"},
		{one, "? =2 3 4 ?4 =4 5 6 7 8 9", ""},
		{one, "? =2 3 4 ?4 4 5 6 7 8 9", "4 came again or too late"},
		{one, "? =2 3 4 ?3 4 5 6 7 8 9", ""}, // it asked for that
		{one, "? =2 3 5 4 6 7 8 9", "5 came where 4 was due"},
		{one, "? =2 4 =9", "4 came where 3 was due"},
		{one, "? =2 3 =5 6 7 8 9", "[4 5] did not come in front of cursor 50"},
		{one, "? =2 3 !5 =5 6 7 8 9", ""},
		{one, "? =2 3 !5 =5 5 6 7 8 9", "5 came again or too late"}, // a part of what is lost
		{one, "? =2 3 !5 =5 7 8 9", "7 came where 6 was due"},       // a resync excuses up to its cursor
		{one, "? =2 3 4 5 6 7", "[8 9] did not come"},
		{one, "? =2 3 4 5 6 7 l", ""},
		{one, "? =2 3 4 5 l ?5 6 7 l", ""},
		{one, "? =2 3 4@35 4 5 6 7 8 9", "4 came at 35, it was acknowledged at 40"},
		{one, "? =2 3 4@35 !5 6 7 8 9", ""},
		{one, "? =2 3@25 3 4 5 6 7 8 9", ""}, // 3 was tried again
		{all, "? =2 3 4 5 6 7 8 9", ""},
		{all, "? =2 3 5 !5 =5 6 7 8 9", ""}, // told behind, but before a cursor
		{all, "? =2 3 5 =5 !5 6 7 8 9", "[4] did not come in front of cursor 50"},
		{all, "? =2 3 5 6 7 8 9", "[4] did not come"},
		{all, "? =2 3 5 ?3 4 5 6 7 8 9", ""}, // cut before it was told
		{all, "? =2 3 !b5 =5 6 7 8 9", "[4 5] did not come"},
		{all, "? =2 3 5 4 6 7 8 9", "4 came again or too late"},
		{all, "? =2 3 4 ?2 3 4 =4 5 6 7 8 9", ""},
	} {
		c := &Client{Profile: Profile{Name: "c", Transport: Stream, Channels: tt.channels}}
		cursor := func(n string) string {
			position, _ := strconv.ParseUint(n, 10, 64)
			return shard.FormatCursor(tt.channels, map[shard.Slot]uint64{shard.Of("/a/x"): 10 * position})
		}
		for word := range strings.FieldsSeq(tt.history) {
			r := Record{Kind: Event, Channel: "/a/x"}
			switch kind, rest := word[0], word[1:]; kind {
			case '?':
				r = Record{Kind: Asked}
				if rest != "" {
					r.Cursor = cursor(rest)
				}
			case '=':
				r = Record{Kind: Passed, Cursor: cursor(rest)}
			case '!':
				r = Record{Kind: Resync, Channel: tt.channels[0], Cursor: cursor(rest)}
				if other, ok := strings.CutPrefix(rest, "b"); ok {
					r.Channel, r.Cursor = "/b", cursor(other)
				}
			case 'l':
				r = Record{Kind: Left}
			default:
				number, place, moved := strings.Cut(word, "@")
				if !moved {
					place = number + "0"
				}
				r.N, _ = strconv.Atoi(number)
				r.Position, _ = strconv.ParseUint(place, 10, 64)
			}
			c.history = append(c.history, r)
		}
		switch err := Check(c, published); {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.history, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: got %v, want %q", tt.history, err, tt.want)
		}
	}
}
