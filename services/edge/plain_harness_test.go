package edge

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"strings"
	"testing/synctest"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// curl is a client of plain channels.
func (w *world) curl() *http.Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return w.doors.Dial(ctx) }}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// request makes a request; headers are names and values in turn.
func (w *world) request(method, path, body string, headers ...string) *http.Request {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, "http://edge.test"+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

// got is a whole response.
type got struct {
	*http.Response
	text   string
	object message // its JSON, if that is what it is
}

func (w *world) do(method, path, body string, headers ...string) got {
	w.t.Helper()
	res, err := w.curl().Do(w.request(method, path, body, headers...))
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	g := got{Response: res, text: string(text)}
	_ = json.Unmarshal(text, &g.object)
	return g
}

func (w *world) get(path string, headers ...string) got {
	w.t.Helper()
	return w.do(http.MethodGet, path, "", headers...)
}

// messages is a batch's, as channel=data.
func (g got) messages() string { return batchOf(g.object) }

func batchOf(object message) string {
	list, _ := object["messages"].([]any)
	var messages []message
	for _, m := range list {
		if m, ok := m.(map[string]any); ok {
			messages = append(messages, m)
		}
	}
	return summary(messages)
}

func (g got) cursor() string {
	cursor, _ := g.object["cursor"].(string)
	return cursor
}

// unit is what a stream brings at once.
type unit struct {
	object   message
	id, name string // of a server-sent event
	retry    string
	raw      string
}

func (u unit) kind() string {
	kind, _ := u.object["type"].(string)
	return kind
}

func (u unit) cursor() string {
	cursor, _ := u.object["cursor"].(string)
	return cursor
}

// stream is a response that is still coming.
type stream struct {
	w      *world
	header http.Header
	in     *bufio.Reader
	parts  *multipart.Reader
	read   func() (unit, error)
	close  func()
	head   string // what came in front of the first unit
	conn   net.Conn
	pings  int
}

// open opens a stream and reads its first object.
func (w *world) open(transport, path string, headers ...string) (*stream, unit) {
	w.t.Helper()
	s := w.begin(transport, path, headers...)
	first := s.next()
	if first.kind() != "open" {
		w.t.Fatalf("%s begins with %+v", transport, first)
	}
	return s, first
}

// begin opens a stream.
func (w *world) begin(transport, path string, headers ...string) *stream {
	w.t.Helper()
	if transport == "ws" {
		return w.dialSocket(path, headers...)
	}
	if strings.Contains(path, "?") {
		path += "&transport=" + transport
	} else {
		path += "?transport=" + transport
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	res, err := w.curl().Do(w.request(http.MethodGet, path, "", headers...).WithContext(ctx))
	if err != nil {
		cancel()
		w.t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(res.Body)
		cancel()
		w.t.Fatalf("%s: status %d, %s", transport, res.StatusCode, text)
	}
	s := &stream{w: w, header: res.Header, in: bufio.NewReader(res.Body)}
	s.close = func() { cancel(); _ = res.Body.Close() }
	w.t.Cleanup(s.close)
	switch transport {
	case "sse":
		s.read = s.readEvent
	case "stream":
		s.read = s.readLine
	case "multipart":
		s.parts = multipart.NewReader(s.in, "comet")
		s.read = s.readPart
	case "frame":
		s.read = s.readScript
	}
	return s
}

func (w *world) dialSocket(path string, headers ...string) *stream {
	w.t.Helper()
	header := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		header.Add(headers[i], headers[i+1])
	}
	dialer := ws.Dialer{
		Header:  ws.HandshakeHeaderHTTP(header),
		NetDial: func(ctx context.Context, _, _ string) (net.Conn, error) { return w.doors.Dial(ctx) },
	}
	conn, in, _, err := dialer.Dial(w.t.Context(), "ws://edge.test"+path)
	if err != nil {
		w.t.Fatal(err)
	}
	if in == nil {
		in = bufio.NewReader(conn)
	}
	s := &stream{w: w, in: in, conn: conn, close: func() { _ = conn.Close() }}
	w.t.Cleanup(s.close)
	s.read = s.readText
	return s
}

// next returns the next object.
func (s *stream) next() unit {
	s.w.t.Helper()
	u, err := s.read()
	if err != nil {
		s.w.t.Fatalf("reading a stream: %v", err)
	}
	return u
}

// ends checks that nothing more comes.
func (s *stream) ends() {
	s.w.t.Helper()
	if u, err := s.read(); err == nil {
		s.w.t.Fatalf("the stream goes on with %+v", u)
	}
}

// messages reads some messages, as channel=data.
func (s *stream) messages(n int) string {
	s.w.t.Helper()
	var all []message
	for range n {
		all = append(all, s.next().object)
	}
	return summary(all)
}

func (s *stream) readEvent() (u unit, err error) {
	for {
		line, err := s.in.ReadString('\n')
		if err != nil {
			return u, err
		}
		u.raw += line
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "id":
			u.id = value
		case "event":
			u.name = value
		case "retry":
			u.retry = value
		case "data":
			err = json.Unmarshal([]byte(value), &u.object)
		case "":
			return u, nil
		}
		if err != nil {
			return u, err
		}
	}
}

func (s *stream) readLine() (u unit, err error) {
	if u.raw, err = s.in.ReadString('\n'); err == nil {
		err = json.Unmarshal([]byte(u.raw), &u.object)
	}
	return u, err
}

func (s *stream) readPart() (u unit, err error) {
	part, err := s.parts.NextPart()
	if err != nil {
		return u, err
	}
	text, err := io.ReadAll(part)
	if err == nil {
		err = json.Unmarshal(text, &u.object)
	}
	if kind := part.Header.Get("Content-Type"); kind != "application/json" {
		err = fmt.Errorf("part of type %q", kind)
	}
	u.raw = string(text)
	return u, err
}

func (s *stream) readScript() (u unit, err error) {
	for {
		line, err := s.in.ReadString('\n')
		if err != nil {
			return u, err
		}
		call, ok := strings.CutPrefix(line, "<script>c(")
		if !ok {
			if strings.HasPrefix(line, "<script>r(") {
				return unit{raw: line}, nil
			}
			s.head += line
			continue
		}
		u.raw = strings.TrimSuffix(call, ")</script>\n")
		return u, json.Unmarshal([]byte(u.raw), &u.object)
	}
}

func (s *stream) readText() (u unit, err error) {
	for {
		f, err := ws.ReadFrame(s.in)
		switch {
		case err != nil:
			return u, err
		case f.Header.OpCode == ws.OpClose:
			code, reason := ws.ParseCloseFrameData(f.Payload)
			return u, fmt.Errorf("closed with %d %s", code, reason)
		case f.Header.OpCode == ws.OpPing:
			s.pings++
		case f.Header.OpCode == ws.OpText:
			u.raw = string(f.Payload)
			return u, json.Unmarshal(f.Payload, &u.object)
		}
	}
}

// say sends a text message over a WebSocket.
func (s *stream) say(text string) {
	s.w.t.Helper()
	if err := wsutil.WriteClientText(s.conn, []byte(text)); err != nil {
		s.w.t.Fatal(err)
	}
	synctest.Wait()
}
