package history

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
)

func encodings() []Entry {
	return []Entry{
		{Channel: "/a", Offset: 1},
		{Channel: "/a/b", Offset: 1 << 52, Prev: 1<<52 - 1, Term: 1, Time: 1_700_000_000_000, Data: []byte("1")},
		{Channel: "/a/b", Offset: 1 << 52, Prev: 3, Term: 1 << 40, Data: bytes.Repeat([]byte("x"), 300), Ext: []byte("{}")},
		{
			Channel: "/service/x", Offset: 7, Prev: 1, Term: 300, Time: 5, Data: []byte("null"), Ext: []byte(`{"a":1}`),
			Members: []byte(`"m":2`), Session: "s", ID: "17", Key: "k",
		},
	}
}

func TestEncoding(t *testing.T) {
	var all []byte
	for _, e := range encodings() {
		before := len(all)
		all = e.AppendTo(all)
		if took, sealed := len(all)-before, e.Seal(); took != e.Size() || took != sealed.Size() ||
			took != cap(sealed.encoding) || !bytes.Equal(sealed.AppendTo(nil), all[before:]) {
			t.Errorf("%+v takes %d bytes, sealed %+v", e, took, sealed)
		}
		if e.Channel != (Encoded{all[before:]}).Channel() || e.Offset != (Encoded{all[before:]}).Offset() {
			t.Errorf("%+v: channel %q, offset %d", e, Encoded{all[before:]}.Channel(), Encoded{all[before:]}.Offset())
		}
	}
	rest := all
	for _, want := range encodings() {
		var e Entry
		size, err := e.Decode(rest)
		if err != nil || !reflect.DeepEqual(&e, want.Seal()) {
			t.Errorf("got %+v, %v, want %+v", e, err, want)
		}
		for short := range size {
			if _, err := new(Entry).Decode(rest[:short]); !errors.Is(err, ErrEncoding) {
				t.Fatalf("the first %d of %d bytes of %+v: %v", short, size, want, err)
			}
		}
		rest = rest[size:]
	}
	if len(rest) > 0 {
		t.Errorf("%d bytes are left", len(rest))
	}
}

// FuzzDecode: bytes are an entry or an error, and an entry is encoded again as
// one that is equal.
func FuzzDecode(f *testing.F) {
	for _, e := range encodings() {
		f.Add(e.AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e := Entry{Prev: 77} // of something before it
		size, err := e.Decode(b)
		if err != nil {
			return
		}
		if size > len(b) {
			t.Fatalf("%d of %d bytes", size, len(b))
		}
		e.encoding = nil
		again := new(Entry)
		_, err = again.Decode(e.AppendTo(nil))
		again.encoding = nil
		if err != nil || !reflect.DeepEqual(&e, again) {
			t.Fatalf("%+v became %+v, %v", e, again, err)
		}
	})
}
