package webhook

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestSignature(t *testing.T) {
	old, young, body := []byte("an old secret, long"), []byte("a young secret, long"), []byte(`{"events":[]}`)
	// From another implementation: printf 't.body' | openssl dgst -sha256 -hmac …
	const want = "t=1767323045,v1=ca8abd3f986059aeeb85c1a3020aa2023872dcfd8c342774b433fb278d7cfc68"
	both := Sign([][]byte{old, young}, now, body)
	for _, secret := range [][]byte{old, young} {
		if err := Verify(secret, both, body, now.Add(time.Minute), 5*time.Minute); err != nil {
			t.Error(err)
		}
	}
	if got := Sign([][]byte{old}, now, body); got != want {
		t.Errorf("signature %s, want %s", got, want)
	}
	good := Sign([][]byte{old}, now, body)
	for name, err := range map[string]error{
		"another secret": Verify(young, good, body, now, time.Minute),
		"another body":   Verify(old, good, []byte(`{"events":[1]}`), now, time.Minute),
		"another time":   Verify(old, strings.Replace(good, "t=1767323045", "t=1767323046", 1), body, now, time.Minute),
		"an old one":     Verify(old, good, body, now.Add(2*time.Minute), time.Minute),
		"of the future":  Verify(old, good, body, now.Add(-2*time.Minute), time.Minute),
		"nothing":        Verify(old, "", body, now, time.Minute),
		"no sum":         Verify(old, "t=1767323045", body, now, time.Minute),
		"half a sum":     Verify(old, good[:len(good)-2], body, now, time.Minute),
		"not hex":        Verify(old, "t=1767323045,v1=zz", body, now, time.Minute),
	} {
		if !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSecrets(t *testing.T) {
	secrets, err := ParseSecrets([]byte("sixteen bytes, at least\r\n\n another one of them \n"))
	if err != nil || len(secrets) != 2 || string(secrets[1]) != "another one of them" {
		t.Errorf("%q, %v", secrets, err)
	}
	for _, text := range []string{"", "\n\n", "short", strings.Repeat("a secret of many bytes\n", 5)} {
		if secrets, err := ParseSecrets([]byte(text)); err == nil {
			t.Errorf("%q is read as %q", text, secrets)
		}
	}
}

func TestBody(t *testing.T) {
	var got struct{ Events []map[string]int }
	body := Body([][]byte{[]byte(`{"a":1}`), []byte(`{"b":2}`)})
	if err := json.Unmarshal(body, &got); err != nil || len(got.Events) != 2 || got.Events[1]["b"] != 2 {
		t.Errorf("%s: %v", body, err)
	}
}

func FuzzCursor(f *testing.F) {
	f.Add(`{"after":"17"}`)
	f.Fuzz(func(t *testing.T, text string) {
		at, err := ParseCursor([]byte(text))
		if err != nil {
			return
		}
		if back, err := ParseCursor(Cursor(at)); err != nil || back != at {
			t.Errorf("%d is read back as %d: %v", at, back, err)
		}
	})
}

func TestCourier(t *testing.T) {
	at := func(seconds float64) time.Time { return now.Add(time.Duration(seconds * float64(time.Second))) }
	due := func(c *Courier, seconds float64, want time.Duration, is bool) {
		t.Helper()
		if d, ok := c.Due(at(seconds)); d != want || ok != is {
			t.Errorf("at %v s: due in %v, %v; want %v, %v", seconds, d, ok, want, is)
		}
	}
	c := NewCourier(0, now)
	due(c, 100, 0, false) // it has been nowhere
	c.Passed(7)
	due(c, 1, 9*time.Second, true)
	c.Told(9)
	due(c, .4, 600*time.Millisecond, true)
	due(c, 3, 0, true)
	c.Saved(9, at(3))
	due(c, 3, 0, false)
	c.Passed(8) // never back
	if c.At() != 9 {
		t.Errorf("at %d", c.At())
	}
	c.Passed(20)
	due(c, 4, 9*time.Second, true)
	c.Lost()
	if due(c, 100, 0, false); c.At() != 0 {
		t.Errorf("at %d", c.At())
	}
	for i, seconds := range []float64{1, 2, 4, 8, 16, 32, 60, 60, 60} {
		if d := c.Failed().Seconds(); d < seconds/2 || d > seconds {
			t.Errorf("pause %d is %v s, want up to %v", i, d, seconds)
		}
	}
	c.Told(30)
	if d := c.Failed(); d > time.Second {
		t.Errorf("after a success the pause is %v", d)
	}
}
