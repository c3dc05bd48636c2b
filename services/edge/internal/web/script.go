package web

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/comet-push/comet/services/edge/internal/frame"
)

// ScriptType is the Content-Type of scripts.
const ScriptType = "text/javascript; charset=utf-8"

// DefaultCallback is the function a script calls if the request names none.
const DefaultCallback = "jsonpcallback"

// AllowScript is Allow for what a page can load as a script or frame, for which
// browsers send no Origin: the page is known by its Referer. One that hides it,
// or is of a foreign plain frame, is told from a program by Sec-Fetch-Site,
// which browsers send wherever the server is reached by https or on loopback.
func (o *Origins) AllowScript(r *http.Request) bool {
	if len(r.Header.Values("Origin")) > 0 {
		return o.Allow(r)
	}
	switch pages := r.Header.Values("Referer"); len(pages) {
	case 0:
		switch r.Header.Get("Sec-Fetch-Site") {
		case "", "same-origin", "none":
			return true
		}
		return false
	case 1:
		page, err := url.Parse(strings.ToLower(pages[0]))
		return err == nil && page.Scheme != "" && page.Host != "" && o.allow(page, r)
	}
	return false
}

// ValidCallback reports whether a name may be called by a script: JavaScript
// identifiers of ASCII letters, digits, _ and $, joined by dots; at most 64
// bytes.
func ValidCallback(name string) bool {
	const longest = 64
	if len(name) > longest {
		return false
	}
	for segment := range strings.SplitSeq(name, ".") {
		if segment == "" || '0' <= segment[0] && segment[0] <= '9' || strings.Trim(segment, identifier) != "" {
			return false
		}
	}
	return true
}

const identifier = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_$"

// AppendScript appends a script that calls a function with JSON, and does
// nothing else whatever the JSON holds: neither plug-ins nor browsers that look
// for HTML take it for something else.
func AppendScript(dst []byte, callback string, json []byte) []byte {
	dst = append(append(append(dst, "/**/"...), callback...), '(')
	return append(frame.AppendScript(dst, json), ");"...)
}

// ScriptHeader returns the further headers of a script: a page that is led to
// its address downloads it. They must not be changed.
func ScriptHeader() http.Header {
	return http.Header{"Content-Disposition": {"attachment; filename=f.txt"}}
}
