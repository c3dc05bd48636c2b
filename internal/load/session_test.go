package load

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/gobwas/ws"
	"github.com/google/go-cmp/cmp"
)

// talk is a client of a transport without a connection.
func talk(transport string) *client {
	small := hdrhistogram.New(1, 1000, 1)
	t := tally{faults: map[string]int{}, latency: small, setup: small, opening: 1}
	c := &client{tally: &t, channel: 3, phase: opening, number: 1}
	c.session = newSession(&door{host: "h", transport: transport, prefix: "/b", pollEvery: time.Second}, c)
	return c
}

// outcome describes what a client has come to.
func outcome(c *client, sent []byte, err error) string {
	t := c.tally
	return fmt.Sprintf("live=%t cursor=%s delivered=%d gaps=%d repeats=%d resyncs=%d strays=%d alarm=%v err=%v\n%s",
		c.phase == live, c.cursor, t.delivered, t.gaps, t.repeats, t.resyncs, t.strays, c.alarm, err, sent)
}

// converse begins a session and feeds it what a server says, in parts.
func converse(transport string, parts [][]byte) string {
	c := talk(transport)
	out := c.session.begin(nil)
	var err error
	for _, part := range parts {
		if out, err = c.session.input(bytes.Clone(part), out); err != nil {
			break
		}
	}
	return outcome(c, out, err)
}

func message(seq uint32) string {
	data := appendData(nil, minSize, stamp{seq: seq, channel: 3})
	return fmt.Sprintf(`{"channel":"/b/3","position":%d,"data":%s}`, 100+seq, data)
}

func event(seq uint32) string {
	return fmt.Sprintf(`{"channel":"/b/3","data":%s}`, appendData(nil, minSize, stamp{seq: seq, channel: 3}))
}

func chunk(text string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(text), text) }

func reply(body string, fields ...string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s", strings.Join(fields, ""), len(body), body)
}

func frame(texts ...string) string {
	var out []byte
	for _, text := range texts {
		out = append(out, ws.MustCompileFrame(ws.NewTextFrame([]byte(text)))...)
	}
	return string(out)
}

const (
	chunked   = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	upgraded  = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
	opened    = `{"type":"open","cursor":100,"heartbeat":25}`
	handshake = `[{"channel":"/meta/handshake","id":"1","successful":true,"clientId":"C","advice":{"reconnect":"retry","interval":0}}]`
	subscribe = `[{"channel":"/meta/subscribe","id":"2","successful":true,"subscription":"/b/3"}]`
)

func get(transport, since string) string {
	return "GET /channels/b/3?transport=" + transport + "&since=" + since + " HTTP/1.1\r\nHost: h\r\n\r\n"
}

// post is what a Bayeux client posts.
func post(cookie, body string) string {
	return fmt.Sprintf("POST /cometd HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: %d%s\r\n\r\n%s", len(body), cookie, body)
}

func TestSessions(t *testing.T) {
	connect := func(id int) string {
		return fmt.Sprintf(`[{"channel":"/meta/connect","connectionType":"long-polling","clientId":"C","id":"%d"}]`, id)
	}
	connected := `[{"channel":"/meta/connect","id":"3","successful":true}]`
	begun := post("", `[{"channel":"/meta/handshake","version":"1.0","supportedConnectionTypes":["long-polling"],"id":"1"}]`) +
		post("\r\nCookie: A=1", `[{"channel":"/meta/subscribe","subscription":"/b/3","clientId":"C","id":"2"}]`) + post("\r\nCookie: A=1", connect(3))
	for _, tt := range []struct{ name, transport, in, want string }{
		{
			"sse", "sse",
			chunked + chunk("retry: 2000\nevent: comet\nid: 100\ndata: "+opened+"\n\n") + chunk("id: 101\ndata: "+message(1)+"\n\n") +
				chunk("id: 102\ndata: "+message(2)+"\n\nid: 104\ndata: "+message(4)+"\n\n") + chunk("event: comet\nid: 110\ndata: {\"type\":\"heartbeat\",\"cursor\":110}\n\n"),
			"live=true cursor=110 delivered=3 gaps=1 repeats=0 resyncs=0 strays=0 alarm=0s err=<nil>\n" + get("sse", "latest"),
		},
		{
			"stream that ends", "stream",
			chunked + chunk(opened+"\n") + chunk(message(1)+"\n"+message(1)+"\n") + chunk(`{"type":"resync","cursor":300,"channels":["/b/3"]}`+"\n"+
				`{"type":"end","reason":"draining","cursor":301,"retry":1500}`+"\n"),
			"live=true cursor=301 delivered=1 gaps=0 repeats=1 resyncs=1 strays=0 alarm=0s err=the server ended a stream: draining\n" + get("stream", "latest"),
		},
		{
			"multipart", "multipart",
			chunked + chunk("--comet\r\nContent-Type: application/json\r\n\r\n"+opened+"\r\n--comet\r\n") +
				chunk("Content-Type: application/json\r\n\r\n"+message(1)+"\r\n--comet\r\n"),
			"live=true cursor=101 delivered=1 gaps=0 repeats=0 resyncs=0 strays=0 alarm=0s err=<nil>\n" + get("multipart", "latest"),
		},
		{
			"frame that loads the next", "frame",
			chunked + chunk("<!doctype html><script>function c(m){parent.comet(m)}</script>\n<script>c("+opened+")</script>\n") +
				chunk("<script>c("+message(1)+")</script>\n") + chunk("<script>location.replace('x')</script>\n") + "0\r\n\r\n",
			"live=true cursor=101 delivered=1 gaps=0 repeats=0 resyncs=0 strays=0 alarm=0s err=<nil>\n" + get("frame", "latest") + get("frame", "101"),
		},
		{
			"refused stream", "sse",
			"HTTP/1.1 403 Forbidden\r\nContent-Length: 77\r\n\r\n" + `{"status":403,"title":"Forbidden","reason":"SUBSCRIBE_DENIED","detail":"ask"} `[:77],
			"live=false cursor= delivered=0 gaps=0 repeats=0 resyncs=0 strays=0 alarm=0s err=status 403 Forbidden: SUBSCRIBE_DENIED ask\n" + get("sse", "latest"),
		},
		{
			"long-poll", "long-poll",
			reply(`{"messages":[],"cursor":100}`) + reply(`{"messages":[`+message(1)+","+message(2)+`],"cursor":102}`) + reply(`{"messages":[],"cursor":"200","resync":["/b/3"]}`),
			"live=true cursor=200 delivered=2 gaps=0 repeats=0 resyncs=1 strays=0 alarm=0s err=<nil>\n" +
				get("long-poll", "latest&wait=0") + get("long-poll", "100") + get("long-poll", "102") + get("long-poll", "200"),
		},
		{
			"jsonp", "jsonp",
			reply(`/**/jsonpcallback({"messages":[` + message(1) + `],"cursor":101,"end":"draining","retry":5});`),
			"live=false cursor=101 delivered=1 gaps=0 repeats=0 resyncs=0 strays=0 alarm=0s err=the server ended a poll: draining\n" + get("jsonp", "latest&wait=0"),
		},
		{
			"poll", "poll",
			reply(`{"messages":[` + message(1) + `],"cursor":101}`),
			"live=true cursor=101 delivered=1 gaps=0 repeats=0 resyncs=0 strays=0 alarm=619ms err=<nil>\n" + get("poll", "latest&limit=1000"),
		},
		{
			"long-polling", "long-polling",
			reply(handshake, "Set-Cookie: A=1; Path=/\r\n") + reply(subscribe) + reply("["+event(1)+","+event(2)+","+connected[1:]) +
				reply(`[{"channel":"/meta/connect","id":"4","successful":true,"advice":{"interval":2000}}]`),
			"live=true cursor= delivered=2 gaps=0 repeats=0 resyncs=0 strays=0 alarm=2s err=<nil>\n" + begun + post("\r\nCookie: A=1", connect(4)),
		},
		{
			"a session that is gone", "long-polling",
			reply(handshake, "Set-Cookie: A=1; Path=/\r\n") + reply(subscribe) +
				reply(`[{"channel":"/meta/connect","id":"3","successful":false,"error":"402::gone","advice":{"reconnect":"handshake"}}]`),
			"live=true cursor= delivered=0 gaps=0 repeats=0 resyncs=0 strays=0 alarm=0s err=the server asked for a new session: 402::gone\n" + begun,
		},
		{
			"refused handshake", "long-polling",
			reply(`[{"channel":"/meta/handshake","id":"1","successful":false,"error":"403::no","advice":{"reconnect":"none"}}]`),
			"live=false cursor= delivered=0 gaps=0 repeats=0 resyncs=0 strays=0 alarm=0s err=/meta/handshake was refused: 403::no\n" +
				post("", `[{"channel":"/meta/handshake","version":"1.0","supportedConnectionTypes":["long-polling"],"id":"1"}]`),
		},
	} {
		for i, parts := range splits([]byte(tt.in)) {
			if diff := cmp.Diff(tt.want, converse(tt.transport, parts)); diff != "" {
				t.Fatalf("%s, split %d:\n%s", tt.name, i, diff)
			}
		}
	}
}

// TestSocketSessions compares without what is sent: frames have random masks.
func TestSocketSessions(t *testing.T) {
	closing := string(ws.MustCompileFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(1012, "draining"))))
	for _, tt := range []struct{ name, transport, in, want string }{
		{
			"plain", "ws", upgraded + frame(opened, message(1), message(2)) + string(ws.MustCompileFrame(ws.NewPingFrame(nil))) + closing,
			"live=true cursor=102 delivered=2 gaps=0 repeats=0 resyncs=0 strays=0 alarm=0s err=the server closed a socket: 1012 draining",
		},
		{
			"Bayeux", "websocket",
			upgraded + frame(handshake, subscribe, "["+event(1)+"]", `[{"channel":"/meta/connect","id":"3","successful":true}]`, "["+event(3)+"]"),
			"live=true cursor= delivered=2 gaps=1 repeats=0 resyncs=0 strays=0 alarm=0s err=<nil>",
		},
		{
			"refused", "ws", "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope",
			"live=false cursor= delivered=0 gaps=0 repeats=0 resyncs=0 strays=0 alarm=0s err=status 404 Not Found: nope",
		},
	} {
		for i, parts := range splits([]byte(tt.in)) {
			got, _, _ := strings.Cut(converse(tt.transport, parts), "\n")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Fatalf("%s, split %d:\n%s", tt.name, i, diff)
			}
		}
	}
}

// FuzzSessions checks of every transport that it does not matter how bytes
// arrive, and that none of them does harm.
func FuzzSessions(f *testing.F) {
	f.Add(uint8(5), []byte(chunked+chunk("data: "+opened+"\n\n")+chunk("data: "+message(1)+"\n\n")))
	f.Add(uint8(8), []byte(chunked+chunk("<script>c("+message(1)+")</script>\n")+"0\r\n\r\n"))
	f.Add(uint8(0), []byte(reply(handshake)+reply(subscribe)+reply("["+event(1)+"]")))
	f.Add(uint8(2), []byte(upgraded+frame(handshake, subscribe)))
	f.Add(uint8(4), []byte(reply(`{"messages":[`+message(1)+`],"cursor":101}`)))
	f.Add(uint8(10), []byte(upgraded+frame(opened, message(7))))
	f.Fuzz(func(t *testing.T, transport uint8, text []byte) {
		names := Transports()
		name := names[int(transport)%len(names)]
		all := splits(text)
		first, sent, _ := strings.Cut(converse(name, all[0]), "\n")
		for _, parts := range all[1:] {
			line, out, _ := strings.Cut(converse(name, parts), "\n")
			if line != first || len(out) != len(sent) {
				t.Errorf("%s\nsplit %s %d bytes\nwhole %s %d bytes", name, line, len(out), first, len(sent))
			}
		}
	})
}

// BenchmarkDelivery is what a delivery costs without its system calls.
func BenchmarkDelivery(b *testing.B) {
	for _, tt := range []struct{ transport, head, message string }{
		{"sse", chunked + chunk("data: "+opened+"\n\n"), chunk("id: 101\ndata: " + message(1) + "\n\n")},
		{"ws", upgraded + frame(opened), frame(message(1))},
		{"websocket", upgraded + frame(handshake, subscribe), frame("[" + event(1) + "]")},
		{"long-polling", reply(handshake) + reply(subscribe), reply("[" + event(1) + `,{"channel":"/meta/connect","id":"3","successful":true}]`)},
	} {
		b.Run(tt.transport, func(b *testing.B) {
			c := talk(tt.transport)
			out, err := c.session.input([]byte(tt.head), c.session.begin(nil))
			in := []byte(tt.message)
			b.ReportAllocs()
			for b.Loop() && err == nil {
				out, err = c.session.input(in, out[:0])
			}
			if err != nil || c.phase != live {
				b.Errorf("phase %d: %v", c.phase, err)
			}
		})
	}
}
