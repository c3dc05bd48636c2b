package web

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// Loopback as an entry of allowed origins stands for every origin on this
// machine: localhost, 127.0.0.0/8 and ::1 with any port.
const Loopback = "loopback"

// Origins says which web pages may use the edge. A page that the edge's own
// host served always may: that is no cross-origin request.
type Origins struct {
	exact    []string
	under    []under
	loopback bool
}

// under is an entry like https://*.example.com.
type under struct{ scheme, suffix string }

// ParseOrigins reads allowed origins: https://app.example.com,
// https://*.example.com for all hosts below, or loopback. A bare * is refused:
// Bayeux clients always send credentials, which it could not allow.
func ParseOrigins(list []string) (*Origins, error) {
	o := &Origins{}
	for _, entry := range list {
		if entry == Loopback {
			o.loopback = true
			continue
		}
		u, err := url.Parse(strings.ToLower(entry))
		if err != nil || u.Scheme == "" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.User != nil || u.Fragment != "" {
			return nil, fmt.Errorf("allowed origin %q: want scheme://host[:port], scheme://*.domain or %q", entry, Loopback)
		}
		suffix, wild := strings.CutPrefix(u.Host, "*.")
		switch {
		case wild && suffix != "" && !strings.Contains(suffix, "*"):
			o.under = append(o.under, under{u.Scheme, "." + suffix})
		case strings.Contains(u.Host, "*"):
			return nil, fmt.Errorf("allowed origin %q: a * stands only for the hosts of a domain, as in https://*.example.com", entry)
		default:
			o.exact = append(o.exact, u.Scheme+"://"+u.Host)
		}
	}
	return o, nil
}

// Allow reports whether a request may be served: it names no origin, as
// programs do, or one that is allowed.
func (o *Origins) Allow(r *http.Request) bool {
	values := r.Header.Values("Origin")
	if len(values) == 0 {
		return true
	}
	if len(values) > 1 {
		return false
	}
	origin := strings.ToLower(values[0])
	u, err := url.Parse(origin)
	if err != nil || u.Scheme == "" || u.Host == "" || origin != u.Scheme+"://"+u.Host {
		return false // also "null"
	}
	return o.allow(u, r)
}

// allow reports whether a page of an address, in lower case, may send a
// request.
func (o *Origins) allow(page *url.URL, r *http.Request) bool {
	if slices.Contains(o.exact, page.Scheme+"://"+page.Host) || o.sameOrigin(page, r) {
		return true
	}
	if o.loopback && isLoopback(page.Hostname()) {
		return true
	}
	return slices.ContainsFunc(o.under, func(e under) bool {
		return e.scheme == page.Scheme && strings.HasSuffix(page.Host, e.suffix)
	})
}

// sameOrigin reports whether the page came from the host it talks to. The
// scheme is not compared: behind a proxy that ends TLS it is unknown. Where
// loopback is allowed, which is where everything is open, a foreign name that
// was made to resolve to this machine does not count.
func (o *Origins) sameOrigin(origin *url.URL, r *http.Request) bool {
	return origin.Host == strings.ToLower(r.Host) && (!o.loopback || localHost(origin.Host))
}

func isLoopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// localHost reports whether a Host header names this machine or a bare
// address, which no foreign page can be made to resolve to.
func localHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	if isLoopback(host) {
		return true
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil
}
