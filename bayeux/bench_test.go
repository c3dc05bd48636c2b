package bayeux

import (
	"strings"
	"testing"
)

func BenchmarkDecode(b *testing.B) {
	payload := `{"symbol":"ACME","price":123.45,"history":[` + strings.Repeat("1234,", 40) + `0]}`
	publish := `{"channel":"/ticker/ACME","id":"17","clientId":"0123456789abcdef0123456789abcdef","data":` + payload + `}`
	for _, bb := range []struct{ name, body string }{
		{"connect", `[{"id":"3","channel":"/meta/connect","connectionType":"long-polling","clientId":"0123456789abcdef0123456789abcdef"}]`},
		{"publish", "[" + publish + "]"},
		{"batch100", "[" + strings.Repeat(publish+",", 99) + publish + "]"},
		{"text256K", `[{"channel":"/a","data":"` + strings.Repeat("x", 256<<10) + `"}]`},
	} {
		b.Run(bb.name, func(b *testing.B) {
			body := []byte(bb.body)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Decode(body, Limits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncodeEvent(b *testing.B) {
	data := []byte(`{"symbol":"ACME","price":123.45,"time":1700000000000}`)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendEvent(buf[:0], "/ticker/ACME", data, nil, nil)
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkTreeMatch(b *testing.B) {
	tree := bigTree()
	hits := 0
	b.ReportAllocs()
	for b.Loop() {
		tree.Match("/chat/777/room", func(int) { hits++ })
	}
}

func BenchmarkTreeMatchMiss(b *testing.B) {
	tree := bigTree()
	b.ReportAllocs()
	for b.Loop() {
		tree.Match("/nobody/listens/to/this", func(int) {})
	}
}
