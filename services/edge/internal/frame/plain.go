package frame

import (
	"bytes"
	"strconv"
	"time"
)

// Boundary separates the parts of a multipart response.
const Boundary = "comet"

// SSE returns a server-sent event; id may be empty. An event of type message
// has no name.
func SSE(name, id string, data []byte) *Frame { return Chunk(appendSSE(nil, name, id, data)) }

// SSERetry is SSE behind a field that says how long a client waits before it
// connects again.
func SSERetry(retry time.Duration, name, id string, data []byte) *Frame {
	b := append([]byte("retry: "), strconv.FormatInt(retry.Milliseconds(), 10)...)
	return Chunk(appendSSE(append(b, '\n'), name, id, data))
}

func appendSSE(b []byte, name, id string, data []byte) []byte {
	if name != "" {
		b = append(append(append(b, "event: "...), name...), '\n')
	}
	if id != "" {
		b = append(append(append(b, "id: "...), id...), '\n')
	}
	b = appendLine(append(b, "data: "...), data)
	return append(b, "\n\n"...)
}

// Line returns a line of a stream.
func Line(data []byte) *Frame {
	return Chunk(append(appendLine(make([]byte, 0, len(data)+1), data), '\n'))
}

// appendLine appends JSON as one line: line breaks can stand only between its
// tokens, where a space means the same.
func appendLine(b, data []byte) []byte {
	from := len(b)
	b = append(b, data...)
	for i := from; i < len(b); i++ {
		if b[i] == '\n' || b[i] == '\r' {
			b[i] = ' '
		}
	}
	return b
}

// Part returns a part of a multipart response with the delimiter behind it, so
// that a client needs not wait for the next one to see its end.
func Part(data []byte) *Frame {
	const head, tail = "Content-Type: application/json\r\n\r\n", "\r\n--" + Boundary + "\r\n"
	b := make([]byte, 0, len(head)+len(data)+len(tail))
	return Chunk(append(append(append(b, head...), data...), tail...))
}

// Script returns a script element that calls c.
func Script(data []byte) *Frame {
	const head, tail = "<script>c(", ")</script>\n"
	b := append(make([]byte, 0, len(head)+len(data)+len(tail)), head...)
	return Chunk(append(AppendScript(b, data), tail...))
}

// AppendScript appends JSON in a form that is safe within a script element and
// in scripts of old: what means something to HTML or ends a line in JavaScript,
// and can stand only in strings, is escaped.
func AppendScript(b, data []byte) []byte {
	const special = "<>&\xe2"
	for {
		i := bytes.IndexAny(data, special)
		if i < 0 {
			return append(b, data...)
		}
		b = append(b, data[:i]...)
		data = data[i:]
		switch {
		case data[0] == '<':
			b = append(b, `\u003c`...)
		case data[0] == '>':
			b = append(b, `\u003e`...)
		case data[0] == '&':
			b = append(b, `\u0026`...)
		case bytes.HasPrefix(data, []byte("\u2028")):
			b = append(b, `\u2028`...)
			data = data[2:]
		case bytes.HasPrefix(data, []byte("\u2029")):
			b = append(b, `\u2029`...)
			data = data[2:]
		default:
			b = append(b, data[0])
		}
		data = data[1:]
	}
}
