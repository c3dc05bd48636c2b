package report_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/internal/shard"
)

// outcome is what Confirm said of a session.
type outcome struct {
	calls int
	kept  bool
	after time.Duration
}

// confirm confirms a session; wait before reading what became of it.
func (w *world) confirm(session string) (o *outcome, waits bool) {
	o = &outcome{}
	begun := time.Now()
	waits = w.reporter.Confirm(session, func(kept bool) {
		o.calls, o.kept, o.after = o.calls+1, kept, time.Since(begun)
	})
	return o, waits
}

// after waits for what happens within a time.
func (w *world) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestConfirm(t *testing.T) {
	tests := []struct {
		name  string
		node  func(w *world) // under its lock
		kept  bool
		after time.Duration
	}{
		{"kept", func(*world) {}, true, 2 * time.Millisecond},
		{"silent", func(w *world) { w.node.mute = true }, false, 250 * time.Millisecond},
		{"broken", func(w *world) { w.node.fail = errors.New("restart") }, false, 2 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.add("a", "b")
				w.wait()
				w.node.mu.Lock()
				tt.node(w)
				batches := w.node.batches
				w.node.mu.Unlock()
				o, waits := w.confirm("a")
				other, _ := w.confirm("b") // in the same batch
				if !waits {
					t.Fatal("nobody was asked")
				}
				w.after(300 * time.Millisecond) // before the next beat
				if want := (outcome{1, tt.kept, tt.after}); *o != want || *other != want {
					t.Errorf("got %+v and %+v, want %+v", *o, *other, want)
				}
				w.node.mu.Lock()
				defer w.node.mu.Unlock()
				if tt.kept && (w.node.batches != batches+1 || w.node.resumed["a"] != "at a" || w.node.resumed["b"] != "at b") {
					t.Errorf("%d batches, resumed %v", w.node.batches-batches, w.node.resumed)
				}
			})
		})
	}
}

// What has to be told whole is, and what has ended meanwhile, too.
func TestConfirmWithMore(t *testing.T) {
	inWorld(t, func(w *world) {
		w.add("a", "b")
		w.wait()
		w.sessions.set("a", "/a", "/b")
		w.reporter.Changed("a")
		a, _ := w.confirm("a")
		b, _ := w.confirm("b")
		w.sessions.drop("b")
		w.reporter.Gone("b", gone("disconnect"))
		w.after(10 * time.Millisecond)
		if want := (outcome{1, true, 2 * time.Millisecond}); *a != want || *b != want {
			t.Errorf("got %+v and %+v, want %+v", *a, *b, want)
		}
		w.check()
		if len(w.node.resumed) > 0 || w.node.gone["b"].GetReason() != "disconnect" {
			t.Errorf("resumed %v, gone %v", w.node.resumed, w.node.gone)
		}
	})
}

// Nobody is waited for who does not hold the shard, or is not there.
func TestConfirmByNobody(t *testing.T) {
	inWorld(t, func(w *world) {
		id := inShard(7, 1)[0]
		w.add(id)
		w.wait()
		w.hold(7, "", "")
		w.wait()
		if _, waits := w.confirm(id); waits {
			t.Error("waits for a node that does not hold the shard")
		}
		w.hold(7, self, "")
		w.wait()
		w.leave()
		time.Sleep(10 * time.Second)
		if _, waits := w.confirm(id); waits {
			t.Error("waits for a node that has left")
		}
	})
}

// A node that holds a shard no more when the record is sent does not keep it.
func TestConfirmElsewhere(t *testing.T) {
	inWorld(t, func(w *world) {
		id := inShard(7, 1)[0]
		w.add(id)
		w.wait()
		w.node.mu.Lock() // no answers, so that the window fills up
		w.node.mute = true
		w.node.mu.Unlock()
		for n := range 9 {
			w.add(inShard(shard.PresenceShard(20+n), 1)...)
			time.Sleep(110 * time.Millisecond)
		}
		o, waits := w.confirm(id)
		w.hold(7, "", "")
		time.Sleep(100 * time.Millisecond)
		w.node.mu.Lock()
		w.node.mute = false
		w.node.mu.Unlock()
		w.after(time.Second)
		if !waits || o.calls != 1 || o.kept {
			t.Errorf("waits %v, got %+v", waits, *o)
		}
	})
}

// Whatever is marked, and confirmed, and when, a node knows everything soon.
func TestMarksAndConfirmations(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.wait()
				random := rand.New(rand.NewPCG(seed, 1))
				var outcomes []*outcome
				for n := range 2000 {
					id := fmt.Sprint("s", random.IntN(10))
					switch random.IntN(3) {
					case 0:
						w.sessions.set(id, fmt.Sprint("/", n))
						w.reporter.Changed(id)
					case 1:
						o, waits := w.confirm(id)
						if !waits {
							t.Fatal("nobody was asked")
						}
						outcomes = append(outcomes, o)
					default:
						time.Sleep(time.Duration(random.IntN(30)) * 100 * time.Microsecond)
					}
					if random.IntN(50) == 0 {
						w.check()
					}
				}
				w.check()
				for _, o := range outcomes {
					if o.calls != 1 || !o.kept {
						t.Fatalf("got %+v", *o)
					}
				}
			})
		})
	}
}
