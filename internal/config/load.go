package config

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

const envPrefix = "COMET_"

// uncleanAfter has a default that depends on another key.
const uncleanAfter = "broker.unclean-after"

// Load fills in what the flags, which are parsed, leave open: from the
// environment (as os.Environ has it) and from the file. Then it validates.
func (c *Config) Load(fs *pflag.FlagSet, environ []string) error {
	vars, err := variables(fs, environ)
	if err != nil {
		return err
	}
	if v, ok := vars["config"]; ok && !fs.Changed("config") {
		c.File = v
	}
	file := &document{values: map[string]value{}}
	if c.File != "" {
		if file, err = read(c.File, fs); err != nil {
			return err
		}
	}
	var errs []error
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Changed {
			return
		}
		if text, ok := vars[f.Name]; ok {
			if err := f.Value.Set(text); err != nil {
				errs = append(errs, fmt.Errorf("%s (for %s): %w", envName(f.Name), f.Name, err))
			}
		} else if v, ok := file.values[f.Name]; ok {
			if err := v.set(f.Value); err != nil {
				errs = append(errs, fmt.Errorf("%s: %s: %w", v.place, f.Name, err))
			}
		}
	})
	c.Namespaces = file.namespaces
	_, inFile := file.values[uncleanAfter]
	_, inVars := vars[uncleanAfter]
	if c.Broker.DataDir != "" && !fs.Changed(uncleanAfter) && !inFile && !inVars {
		c.Broker.UncleanAfter = 0 // what is silent comes back with its disk
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return c.Validate()
}

func envName(key string) string {
	return envPrefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(key))
}

// foreign matches variables that begin like ours and are not: what Kubernetes
// sets for a service named comet-something, and what tests are steered by.
var foreign = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_\d+_(TCP|UDP|SCTP)(_.*)?)?)$|^COMET_(TEST|BINARY)`)

// variables returns the environment's values by key.
func variables(fs *pflag.FlagSet, environ []string) (map[string]string, error) {
	known := map[string]string{}
	fs.VisitAll(func(f *pflag.Flag) { known[envName(f.Name)] = f.Name })
	vars := map[string]string{}
	var errs []error
	for _, pair := range environ {
		name, text, _ := strings.Cut(pair, "=")
		key, ok := known[name]
		switch {
		case ok:
			vars[key] = text
		case strings.HasPrefix(name, envPrefix) && !foreign.MatchString(name):
			names := make([]string, 0, len(known))
			for n := range known {
				names = append(names, n)
			}
			errs = append(errs, fmt.Errorf("environment: unknown variable %s; %s", name, didYouMean(name, names)))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return vars, errors.Join(errs...)
}

// UnknownFlag makes pflag's complaint about a flag that does not exist name the
// nearest one that does. Other errors stay as they are.
func UnknownFlag(fs *pflag.FlagSet, err error) error {
	missing, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return err
	}
	return fmt.Errorf("%w; %s", err, didYouMean(missing.GetSpecifiedName(), keys(fs)))
}

func keys(fs *pflag.FlagSet) []string {
	var list []string
	fs.VisitAll(func(f *pflag.Flag) { list = append(list, f.Name) })
	return list
}

// didYouMean names the candidate that takes the fewest edits.
func didYouMean(name string, candidates []string) string {
	best, least := "", 0
	slices.Sort(candidates)
	for _, c := range candidates {
		if d := edits(name, c); best == "" || d < least {
			best, least = c, d
		}
	}
	return fmt.Sprintf("did you mean %s?", best)
}

// edits is the Levenshtein distance.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// read reads a file.
func read(path string, fs *pflag.FlagSet) (*document, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	return parse(path, text, keys(fs))
}
