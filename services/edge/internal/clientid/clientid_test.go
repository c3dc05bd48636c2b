package clientid_test

import (
	"strings"
	"testing"
	"time"

	"github.com/comet-push/comet/services/edge/internal/clientid"
)

const hint = "0123abcd"

func TestOwnIDsAreValid(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	var r clientid.Ring
	var ids []string
	for n := range clientid.Kept {
		if !r.Due(now) {
			t.Fatalf("key %d is not due", n)
		}
		r = r.Next(now)
		if r.Due(now.Add(clientid.Rotation - time.Second)) {
			t.Errorf("key %d is due too early", n)
		}
		now = now.Add(clientid.Rotation)
		ids = append(ids, r.New(hint, ""))
	}
	back, err := clientid.Parse(r.Format())
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if !back.Valid(id, "") || clientid.Hint(id) != hint {
			t.Errorf("%s is not valid", id)
		}
	}
	if r = r.Next(now); r.Valid(ids[0], "") || r.Knows(ids[0]) {
		t.Error("valid though its key is gone")
	}
	if !r.Valid(ids[1], "") {
		t.Error("not valid though its key is kept")
	}
}

// TestForged changes every digit of an id to every other one.
func TestForged(t *testing.T) {
	r := clientid.Ring(nil).Next(time.Unix(1_800_000_000, 0))
	id := r.New(hint, "")
	for i := range id {
		for _, d := range "0123456789abcdefABCDEFGHIJKLMNOPQRSTUVWXYZ-é" {
			forged := id[:i] + string(d) + id[i+1:]
			if forged != id && r.Valid(forged, "") {
				t.Errorf("%s is valid", forged)
			}
		}
	}
	for _, forged := range []string{"", id[1:], id + "A", strings.ToLower(id), id[:len(id)-12]} {
		if r.Valid(forged, "") {
			t.Errorf("%q is valid", forged)
		}
	}
	if other := clientid.Ring(nil).Next(time.Unix(1_800_000_000, 0)); other.Valid(id, "") {
		t.Error("valid under another key")
	}
}

func TestBoundToABrowser(t *testing.T) {
	r := clientid.Ring(nil).Next(time.Unix(1_800_000_000, 0))
	id := r.New(hint, "cookie")
	for browser, want := range map[string]bool{"cookie": true, "": false, "other": false} {
		if got := r.Valid(id, browser); got != want {
			t.Errorf("valid for %q: %v, want %v", browser, got, want)
		}
	}
}

func TestBrokenKeys(t *testing.T) {
	for _, text := range []string{"x", "{}", `[{"id":"A","secret":"AAAA"}]`, `[{"id":"AA"}]`} {
		if _, err := clientid.Parse([]byte(text)); err == nil {
			t.Errorf("%s was taken", text)
		}
	}
}

func FuzzValid(f *testing.F) {
	r := clientid.Ring(nil).Next(time.Unix(1_800_000_000, 0))
	f.Add(r.New(hint, ""), "")
	f.Add(strings.Repeat("A", 48), "x")
	f.Fuzz(func(t *testing.T, id, browser string) {
		if r.Valid(id, browser) && (len(id) != 48 || !r.Knows(id)) {
			t.Errorf("%q is valid", id)
		}
	})
}

func BenchmarkValid(b *testing.B) {
	r := clientid.Ring(nil).Next(time.Unix(1_800_000_000, 0))
	id := r.New(hint, "")
	for b.Loop() {
		if !r.Valid(id, "") {
			b.Fatal("not valid")
		}
	}
}
