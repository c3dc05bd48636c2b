package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"strings"
)

// What follows reads the bodies of streams; each calls take for every object,
// and returns nil at the end of a whole body.

// readEvents reads server-sent events as browsers do.
func readEvents(body io.Reader, take func(raw []byte, id string) error) error {
	in := reader(body)
	var data []string
	var id string
	for {
		line, err := in.ReadString('\n')
		if errors.Is(err, io.EOF) && line == "" && len(data) == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			if len(data) > 0 {
				if err := take([]byte(strings.Join(data, "\n")), id); err != nil {
					return err
				}
			}
			data, id = nil, ""
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "data":
			data = append(data, value)
		case "id":
			id = value
		case "event":
			if value != "comet" {
				return fmt.Errorf("an event of type %q", value)
			}
		case "retry", "":
		default:
			return fmt.Errorf("a line %q in a stream of events", line)
		}
	}
}

// readLines reads NDJSON.
func readLines(body io.Reader, take func(raw []byte, id string) error) error {
	in := reader(body)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		if err := take(line, ""); err != nil {
			return err
		}
	}
}

// readParts reads multipart/x-mixed-replace.
func readParts(body io.Reader, take func(raw []byte, id string) error) error {
	in := multipart.NewReader(reader(body), "comet")
	for {
		part, err := in.NextPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if got := part.Header.Get("Content-Type"); got != "application/json" {
			return fmt.Errorf("a part of type %q", got)
		}
		raw, err := io.ReadAll(part)
		if err != nil {
			return err
		}
		if err := take(raw, ""); err != nil {
			return err
		}
	}
}

// errReload is what a frame is told to do: load itself anew, from since.
type errReload struct{ since string }

func (e *errReload) Error() string { return "reload since " + e.since }

// readScripts reads the scripts of a forever-frame.
func readScripts(body io.Reader, take func(raw []byte, id string) error) error {
	const begin, end = "<script>", "</script>\n"
	in := reader(body)
	var script []byte
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(script)+len(line) == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		if script = append(script, line...); !bytes.HasSuffix(script, []byte(end)) {
			continue
		}
		code := bytes.TrimSuffix(script[bytes.LastIndex(script, []byte(begin))+len(begin):], []byte(end))
		script = nil
		if since, ok := argument(code, "r(", ")"); ok {
			return &errReload{string(bytes.Trim(since, `"`))}
		}
		raw, ok := argument(code, "c(", ")")
		if !ok {
			return fmt.Errorf("not a safe script: %.300q", code)
		}
		if err := take(raw, ""); err != nil {
			return err
		}
	}
}

// argument returns the JSON that a script has between two texts. It may stand
// in a string, for what JavaScript reads otherwise than JSON.
func argument(code []byte, before, after string) ([]byte, bool) {
	code, begins := bytes.CutPrefix(code, []byte(before))
	code, ends := bytes.CutSuffix(code, []byte(after))
	if !begins || !ends || bytes.ContainsAny(code, "<>&\u2028\u2029") {
		return nil, false
	}
	if quoted, ok := argument(code, "JSON.parse(", ")"); ok {
		var inner string
		err := json.Unmarshal(quoted, &inner)
		return []byte(inner), err == nil
	}
	return code, true
}

// unwrap returns the argument of a script that calls a function.
func unwrap(script []byte, function string) ([]byte, error) {
	raw, ok := argument(bytes.TrimSpace(script), "/**/"+function+"(", ");")
	if !ok {
		return nil, fmt.Errorf("not a safe call of %s: %.300q", function, script)
	}
	return raw, nil
}
