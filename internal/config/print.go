package config

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/comet-push/comet/internal/namespace"
)

// Write prints the effective configuration as a file that would give it again.
func (c *Config) Write(w io.Writer, fs *pflag.FlagSet) error {
	root := &yaml.Node{Kind: yaml.MappingNode}
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Name == "config" || f.Name == "help" {
			return
		}
		branch, path := root, strings.Split(f.Name, ".")
		for _, name := range path[:len(path)-1] {
			branch = child(branch, name)
		}
		put(branch, path[len(path)-1], leaf(f.Value))
	})
	if len(c.Namespaces) > 0 {
		set, err := namespace.NewSet(c.Namespaces, namespace.Closed())
		if err != nil {
			return err
		}
		list := &yaml.Node{Kind: yaml.SequenceNode}
		for _, o := range set.List() {
			list.Content = append(list.Content, namespaceNode(o))
		}
		put(root, "namespaces", list)
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		return fmt.Errorf("print config: %w", err)
	}
	return enc.Close()
}

func namespaceNode(o namespace.Options) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
	bytes, largest := Size(o.Bytes), Size(o.MaxMessageBytes)
	for _, kv := range [][2]string{
		{"pattern", o.Pattern},
		{"subscribe", string(o.Subscribe)},
		{"publish", string(o.Publish)},
		{"messages", fmt.Sprint(o.Messages)},
		{"bytes", bytes.String()},
		{"age", o.Age.String()},
		{"max-message-bytes", largest.String()},
		{"presence", o.Presence},
		{"presence-grace", o.PresenceGrace.String()},
		{"slow", o.Slow},
		{"on-resync", o.OnResync},
	} {
		put(n, kv[0], &yaml.Node{Kind: yaml.ScalarNode, Value: kv[1]})
	}
	return n
}

func child(n *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	branch := &yaml.Node{Kind: yaml.MappingNode}
	put(n, name, branch)
	return branch
}

func put(n *yaml.Node, name string, v *yaml.Node) {
	n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name}, v)
}

func leaf(v pflag.Value) *yaml.Node {
	many, ok := v.(pflag.SliceValue)
	if !ok {
		n := &yaml.Node{}
		n.SetString(v.String())
		return n
	}
	list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, text := range many.GetSlice() {
		n := &yaml.Node{}
		n.SetString(text)
		list.Content = append(list.Content, n)
	}
	return list
}
