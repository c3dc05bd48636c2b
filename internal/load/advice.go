package load

import "strings"

// advice says what to do about a fault, as far as that is known.
func advice(fault, url string) string {
	for _, known := range []struct{ sign, then string }{
		{"connection refused", "nothing listens there: start comet dev, or give the right --url and --rest"},
		{"too many open files", "raise the bound with ulimit -n, or take fewer --clients"},
		{"cannot assign requested address", "the ports of one address are used up: give more --sources"},
		{"SUBSCRIBE_DENIED", "let anyone subscribe to the namespace of --prefix"},
		{"PUBLISH_DENIED", "let backends publish in the namespace of --prefix, or anyone with --publish edge"},
		{"403", "let anyone subscribe to the namespace of --prefix, and backends publish in it"},
		{"TRANSPORT_DISABLED", "the server has this transport switched off; for script tags start it with --edge.jsonp"},
		{"LIMIT_EXCEEDED", "the server has as many clients as it may have: raise its limits, or take fewer --clients"},
		{"status 404", "this door has no such transport: does --url name the public door of a Comet server?"},
		{"status 429", "the server limits what one address may do: raise that, or give more --sources"},
		{"status 503", "the server is starting, draining or full: look at /readyz of its internal door"},
		{"connection reset", "is this the right port of " + url + "?"},
		{"first record does not look like a TLS handshake", "the server speaks http there, not https"},
		{"does not speak HTTP/1.1", "is this the right port of " + url + ", and http rather than https?"},
	} {
		if strings.Contains(fault, known.sign) {
			return ": " + known.then
		}
	}
	return ""
}
