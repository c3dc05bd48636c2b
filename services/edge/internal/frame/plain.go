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
	done := 0 // of data
	for i, c := range data {
		var escaped string
		size := 1
		switch {
		case c == '<':
			escaped = `\u003c`
		case c == '>':
			escaped = `\u003e`
		case c == '&':
			escaped = `\u0026`
		case c != lineBreaks[0]:
			continue
		case bytes.HasPrefix(data[i:], []byte(lineBreaks[:3])):
			escaped, size = `\u2028`, 3
		case bytes.HasPrefix(data[i:], []byte(lineBreaks[3:])):
			escaped, size = `\u2029`, 3
		default:
			continue
		}
		b = append(append(b, data[done:i]...), escaped...)
		done = i + size
	}
	return append(b, data[done:]...)
}

// lineBreaks are those that JSON allows in strings and old scripts do not.
const lineBreaks = "\u2028\u2029"
