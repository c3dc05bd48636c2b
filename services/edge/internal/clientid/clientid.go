// Package clientid makes clientIds and tells those that Comet made from others.
//
//  1. A clientId is letters and digits: the hint of the edge that made it (8 hex
//     digits), 130 random bits, the id of a key, and 60 bits of an HMAC-SHA256
//     under that key of all before it. Bound to a browser, the HMAC covers the
//     browser's cookie, too.
//  2. Whoever lacks the keys makes one that Valid accepts by luck alone, and
//     learns nothing of other clientIds from his own.
//  3. That a clientId is valid says who made it, not that its session exists
//     (CORRECTNESS rule 19).
//  4. Keys change: a new one is made after Rotation and used from then on, old
//     ones are known until they are Kept keys back. A session whose key is gone
//     lives on where it is, but cannot go elsewhere.
package clientid

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// Rotation is how long new clientIds are made with one key.
	Rotation = 24 * time.Hour
	// Kept is how many keys are known, the newest included.
	Kept = 8

	hintLength   = 8
	randomLength = 26
	keyLength    = 2
	macLength    = 12
	length       = hintLength + randomLength + keyLength + macLength

	digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
)

// Key is one key.
type Key struct {
	// ID is two letters or digits.
	ID string `json:"id"`
	// Secret is 32 random bytes.
	Secret []byte `json:"secret"`
	// Made is when it was made, in Unix seconds.
	Made int64 `json:"made"`
}

// Ring is keys, the newest first. It must not change.
type Ring []Key

// Parse reads what Format wrote. No text is no keys.
func Parse(text []byte) (Ring, error) {
	if len(text) == 0 {
		return nil, nil
	}
	var r Ring
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("parse keys: %w", err)
	}
	for _, k := range r {
		if len(k.ID) != keyLength || len(k.Secret) == 0 {
			return nil, errors.New("parse keys: one without an id or a secret")
		}
	}
	return r, nil
}

// Format is the keys as text.
func (r Ring) Format() []byte {
	text, _ := json.Marshal(r) //nolint:gosec // cannot fail, and is for the directory alone
	return text
}

// Due reports whether a new key is to be made.
func (r Ring) Due(now time.Time) bool {
	return len(r) == 0 || now.Sub(time.Unix(r[0].Made, 0)) >= Rotation
}

// Next returns the keys with a new one.
func (r Ring) Next(now time.Time) Ring {
	k := Key{ID: text(keyLength), Secret: make([]byte, sha256.Size), Made: now.Unix()}
	_, _ = rand.Read(k.Secret) // never fails
	for r.find(k.ID) != nil {
		k.ID = text(keyLength)
	}
	next := append(Ring{k}, r...)
	return next[:min(len(next), Kept)]
}

// Knows reports whether the key of a clientId is known.
func (r Ring) Knows(id string) bool { return WellFormed(id) && r.find(keyOf(id)) != nil }

// New returns a clientId with a hint of eight hex digits. browser is the cookie
// that it is bound to, or nothing. There has to be a key.
func (r Ring) New(hint, browser string) string {
	body := hint + text(randomLength) + r[0].ID
	return body + mac(&r[0], body, browser)
}

// Valid reports whether a clientId was made with a known key, for this browser
// if it was bound to one.
func (r Ring) Valid(id, browser string) bool {
	if !WellFormed(id) {
		return false
	}
	k := r.find(keyOf(id))
	body := id[:length-macLength]
	return k != nil && hmac.Equal([]byte(id[len(body):]), []byte(mac(k, body, browser)))
}

// WellFormed reports whether a text may be a clientId.
func WellFormed(id string) bool {
	return len(id) == length && strings.Trim(id[:hintLength], "0123456789abcdef") == "" &&
		strings.Trim(id[hintLength:], digits) == ""
}

// Hint returns what a well-formed clientId begins with.
func Hint(id string) string { return id[:hintLength] }

func keyOf(id string) string { return id[hintLength+randomLength:][:keyLength] }

func (r Ring) find(keyID string) *Key {
	if i := slices.IndexFunc(r, func(k Key) bool { return k.ID == keyID }); i >= 0 {
		return &r[i]
	}
	return nil
}

// text returns n random digits, five bits each.
func text(n int) string {
	random := make([]byte, n)
	_, _ = rand.Read(random) // never fails
	return encode(random)
}

func encode(bytes []byte) string {
	text := make([]byte, len(bytes))
	for i, b := range bytes {
		text[i] = digits[b%32]
	}
	return string(text)
}

// mac is the first digits of an HMAC, five bits of each byte.
func mac(k *Key, body, browser string) string {
	h := hmac.New(sha256.New, k.Secret)
	_, _ = h.Write([]byte(body)) // never fails, nor does the next
	_, _ = h.Write([]byte(browser))
	return encode(h.Sum(nil)[:macLength])
}
