package frame

import (
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
func Part(data []byte) *Frame { return part("", data, delimiter) }

// FirstPart is Part at the beginning of a response.
func FirstPart(data []byte) *Frame { return part(delimiter[len("\r\n"):], data, delimiter) }

// LastPart is Part at the end of a response.
func LastPart(data []byte) *Frame { return part("", data, "\r\n--"+Boundary+"--\r\n") }

// delimiter cannot stand in JSON: behind a line break there is a token, and
// none begins with two signs.
const delimiter = "\r\n--" + Boundary + "\r\n"

func part(before string, data []byte, after string) *Frame {
	const head = "Content-Type: application/json\r\n\r\n"
	b := make([]byte, 0, len(before)+len(head)+len(data)+len(after))
	return Chunk(append(append(append(append(b, before...), head...), data...), after...))
}
