package frame

import (
	"bytes"
	"unicode/utf8"
)

// Script returns a script element that calls c.
func Script(data []byte) *Frame {
	const head, tail = "<script>c(", ")</script>\n"
	b := append(make([]byte, 0, len(head)+len(data)+len(tail)), head...)
	return Chunk(append(AppendScript(b, data), tail...))
}

// Document begins an HTML document in which c calls a function of the parent,
// and calls it once. Of the callback only a dotted identifier may be given.
func Document(callback string, data []byte) *Frame {
	b := append([]byte(documentHead), callback...)
	b = append(b, documentTail...)
	return Chunk(append(AppendScript(b, data), ")</script>\n"...))
}

// Browsers that have no better way than a frame know no URL objects.
const (
	documentHead = `<!DOCTYPE html><html><head><meta charset="utf-8"><script>` +
		`function c(m){parent.`
	documentTail = `(m)}` +
		`function r(s){var q=location.search.substring(1).split("&"),n=[],i;` +
		`for(i=0;i<q.length;i++)if(q[i]&&q[i].indexOf("since=")!=0)n.push(q[i]);` +
		`n.push("since="+s);location.replace(location.pathname+"?"+n.join("&"))}` +
		"</script></head><body>\n<script>c("
)

// Reload has the document load itself anew, from a cursor on.
func Reload(cursor string) *Frame {
	b := appendQuoted([]byte("<script>r("), []byte(cursor))
	return Chunk(append(b, ")</script>\n"...))
}

// AppendScript appends JSON as an expression of JavaScript that has the same
// value and is safe within a script element, in scripts of old, too: what means
// something to HTML or ends a line, and can stand only in strings, is escaped.
func AppendScript(b, data []byte) []byte {
	if mayNameProto(data) {
		b = appendQuoted(append(b, "JSON.parse("...), data)
		return append(b, ')')
	}
	from := 0
	for i := 0; i < len(data); {
		escape, size := scriptEscape(data[i:])
		if escape != "" {
			b = append(append(b, data[from:i]...), escape...)
			from = i + size
		}
		i += size
	}
	return append(b, data[from:]...)
}

// scriptEscape returns what stands for the first character of data in a string
// of a script, empty if it may stand for itself, and its size in bytes.
func scriptEscape(data []byte) (escape string, size int) {
	switch data[0] {
	case '<':
		return `\u003c`, 1
	case '>':
		return `\u003e`, 1
	case '&':
		return `\u0026`, 1
	case "\u2028"[0]:
		switch {
		case bytes.HasPrefix(data, []byte("\u2028")):
			return `\u2028`, utf8.RuneLen('\u2028')
		case bytes.HasPrefix(data, []byte("\u2029")):
			return `\u2029`, utf8.RuneLen('\u2029')
		}
	}
	return "", 1
}

// appendQuoted appends text, which is JSON or ASCII, as a string of JavaScript.
func appendQuoted(b, text []byte) []byte {
	b = append(b, '"')
	for i := 0; i < len(text); {
		escape, size := scriptEscape(text[i:])
		switch c := text[i]; {
		case escape != "":
			b = append(b, escape...)
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\r':
			b = append(b, `\r`...)
		case c == '\t':
			b = append(b, `\t`...)
		default:
			b = append(b, c)
		}
		i += size
	}
	return append(b, '"')
}

// mayNameProto reports whether a member may be named __proto__, which in a
// script sets the prototype, or is an error if it is there twice. Some texts
// without one are taken for one with it.
func mayNameProto(data []byte) bool {
	if bytes.Contains(data, []byte("__proto__")) {
		return true
	}
	for {
		i := bytes.Index(data, []byte(`\u00`))
		if i < 0 || len(data) < i+len(`\u005f`) {
			return false
		}
		switch string(bytes.ToLower(data[i+4 : i+6])) {
		case "5f", "70", "72", "6f", "74": // _ p r o t
			return true
		}
		data = data[i+4:]
	}
}
