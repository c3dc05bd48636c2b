// Package demo is a page that shows Comet at work: it subscribes to channels by
// Bayeux long-polling, shows what comes, and publishes. It talks to its own
// origin alone, runs no inline code and loads nothing from elsewhere.
package demo

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
)

//go:embed page
var page embed.FS

const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// New returns a handler that serves the page at /, its files below /demo/, and
// leaves everything else to next. publishURL is where a terminal publishes by
// REST; without one the page does not say.
func New(publishURL string, next http.Handler) (http.Handler, error) {
	files, err := fs.Sub(page, "page")
	if err != nil {
		return nil, fmt.Errorf("open the demo page: %w", err)
	}
	t, err := template.ParseFS(files, "index.html")
	if err != nil {
		return nil, fmt.Errorf("parse the demo page: %w", err)
	}
	var index bytes.Buffer
	if err := t.Execute(&index, struct{ PublishURL string }{publishURL}); err != nil {
		return nil, fmt.Errorf("render the demo page: %w", err)
	}
	static := http.StripPrefix("/demo/", http.FileServerFS(files))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/":
			setHeaders(w.Header())
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = w.Write(index.Bytes()) // nobody is left to tell
		case "/demo/app.js", "/demo/bayeux.js", "/demo/style.css", "/demo/icon.svg":
			setHeaders(w.Header())
			static.ServeHTTP(w, r)
		default:
			next.ServeHTTP(w, r)
		}
	}), nil
}

func setHeaders(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache")
}
