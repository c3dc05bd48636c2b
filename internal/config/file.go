package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/comet-push/comet/internal/namespace"
)

// document is a parsed file: values by key, and where they stand.
type document struct {
	path       string
	known      []string
	values     map[string]value
	namespaces []namespace.Options
	errs       []error
}

// value is a scalar or a list of scalars.
type value struct {
	place string // file:line
	list  bool
	texts []string
}

func (v value) set(to pflag.Value) error {
	many, takesList := to.(pflag.SliceValue)
	switch {
	case takesList:
		return many.Replace(v.texts)
	case v.list:
		return errors.New("want one value, not a list")
	}
	return to.Set(v.texts[0])
}

// parse reads a YAML text. The walk over nodes, instead of decoding into a
// struct, is what lets every error name its line.
func parse(path string, text []byte, known []string) (*document, error) {
	d := &document{path: path, known: known, values: map[string]value{}}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var root yaml.Node
	switch err := dec.Decode(&root); {
	case errors.Is(err, io.EOF):
		return d, nil
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := dec.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: want one YAML document", path)
	}
	if top := resolve(root.Content[0]); top.Kind == yaml.MappingNode {
		d.mapping(top, "")
	} else if top.Tag != "!!null" {
		d.fail(top, "want keys and values")
	}
	return d, errors.Join(d.errs...)
}

func (d *document) fail(n *yaml.Node, format string, args ...any) {
	d.errs = append(d.errs, fmt.Errorf("%s: %s", d.place(n), fmt.Sprintf(format, args...)))
}

func (d *document) place(n *yaml.Node) string { return fmt.Sprintf("%s:%d", d.path, n.Line) }

// each calls do for every pair of a mapping and refuses repeated keys.
func (d *document) each(n *yaml.Node, prefix string, do func(key string, name, v *yaml.Node)) {
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, v := n.Content[i], resolve(n.Content[i+1])
		key := prefix + name.Value
		if line, ok := seen[key]; ok {
			d.fail(name, "%s: given twice, first in line %d", key, line)
			continue
		}
		seen[key] = name.Line
		do(key, name, v)
	}
}

func (d *document) mapping(n *yaml.Node, prefix string) {
	d.each(n, prefix, func(key string, name, v *yaml.Node) {
		branch := slices.ContainsFunc(d.known, func(k string) bool { return strings.HasPrefix(k, key+".") })
		switch {
		case key == "namespaces":
			d.namespaceList(v)
		case branch && v.Kind == yaml.MappingNode:
			d.mapping(v, key+".")
		case branch:
			d.fail(name, "%s: want keys and values below it", key)
		case key == "config" || !slices.Contains(d.known, key):
			d.fail(name, "%s: unknown key; %s", key, didYouMean(key, append(slices.Clone(d.known), "namespaces")))
		default:
			if texts, ok := d.scalars(key, v); ok {
				d.values[key] = value{place: d.place(v), list: v.Kind == yaml.SequenceNode, texts: texts}
			}
		}
	})
}

// scalars returns the texts of a scalar or of a list of scalars.
func (d *document) scalars(key string, v *yaml.Node) (texts []string, ok bool) {
	items := []*yaml.Node{v}
	if v.Kind == yaml.SequenceNode {
		items, texts = v.Content, []string{}
	}
	for _, item := range items {
		item = resolve(item)
		if item.Kind != yaml.ScalarNode || item.Tag == "!!null" {
			d.fail(item, "%s: want a value", key)
			return nil, false
		}
		texts = append(texts, item.Value)
	}
	return texts, true
}

func (d *document) namespaceList(n *yaml.Node) {
	if n.Kind != yaml.SequenceNode {
		d.fail(n, "namespaces: want a list")
		return
	}
	for i, item := range n.Content {
		prefix := fmt.Sprintf("namespaces[%d].", i)
		if item = resolve(item); item.Kind != yaml.MappingNode {
			d.fail(item, "%swant keys and values", strings.TrimSuffix(prefix, ".")+": ")
			continue
		}
		var o namespace.Options
		fields := namespaceFields(&o)
		d.each(item, prefix, func(key string, name, v *yaml.Node) {
			set, ok := fields[name.Value]
			if !ok {
				names := make([]string, 0, len(fields))
				for f := range fields {
					names = append(names, f)
				}
				d.fail(name, "%s: unknown key; %s", key, didYouMean(name.Value, names))
				return
			}
			texts, ok := d.scalars(key, v)
			if !ok {
				return
			}
			if v.Kind == yaml.SequenceNode {
				d.fail(v, "%s: want one value, not a list", key)
			} else if err := set(texts[0]); err != nil {
				d.fail(v, "%s: %v", key, err)
			}
		})
		d.namespaces = append(d.namespaces, o)
	}
}

// namespaceFields are the keys of a namespace and what sets them. Whether the
// values are allowed is namespace.NewSet's to say.
func namespaceFields(o *namespace.Options) map[string]func(string) error {
	word := func(to *string) func(string) error {
		return func(s string) error { *to = s; return nil }
	}
	who := func(to *namespace.Who) func(string) error {
		return func(s string) error { *to = namespace.Who(s); return nil }
	}
	size := func(to *int) func(string) error {
		return func(s string) error {
			var n Size
			if err := n.Set(s); err != nil {
				return err
			}
			*to = orNone(int(n))
			return nil
		}
	}
	span := func(to *time.Duration) func(string) error {
		return func(s string) error {
			d, err := time.ParseDuration(s)
			if err != nil || d < 0 {
				return fmt.Errorf("%q is not a duration; write for example 5m or 30s", s)
			}
			*to = d
			return nil
		}
	}
	return map[string]func(string) error{
		"pattern":           word(&o.Pattern),
		"subscribe":         who(&o.Subscribe),
		"publish":           who(&o.Publish),
		"messages":          size(&o.Messages),
		"bytes":             size(&o.Bytes),
		"max-message-bytes": size(&o.MaxMessageBytes),
		"presence":          word(&o.Presence),
		"slow":              word(&o.Slow),
		"on-resync":         word(&o.OnResync),
		"presence-grace":    span(&o.PresenceGrace),
		"age": func(s string) error {
			err := span(&o.Age)(s)
			o.Age = orNone(o.Age)
			return err
		},
	}
}

// orNone tells a zero that was given from one that was not.
func orNone[T int | time.Duration](n T) T {
	if n == 0 {
		return namespace.None
	}
	return n
}

// resolve follows an alias to what it stands for.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}
