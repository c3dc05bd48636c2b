package web

import "strings"

// Ancestors returns the pages that may use the edge as sources of a Content
// Security Policy. It cannot say every address of this machine; browsers take
// only 127.0.0.1.
func (o *Origins) Ancestors() string {
	sources := append([]string{"'self'"}, o.exact...)
	for _, u := range o.under {
		sources = append(sources, u.scheme+"://*"+u.suffix)
	}
	if o.loopback {
		for _, scheme := range []string{"http", "https"} {
			for _, host := range []string{"localhost", "*.localhost", "127.0.0.1"} {
				sources = append(sources, scheme+"://"+host+":*")
			}
		}
	}
	return strings.Join(sources, " ")
}
