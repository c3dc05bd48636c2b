package client

import (
	"bytes"
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

// readScripts reads the scripts of a forever-frame.
func readScripts(body io.Reader, take func(raw []byte, id string) error) error {
	in := reader(body)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) && !bytes.Contains(line, []byte("<script>c(")) {
			return nil
		}
		if err != nil {
			return err
		}
		// The head precedes the first of them, perhaps on its line.
		_, call, ok := bytes.Cut(line, []byte("<script>c("))
		if !ok {
			continue
		}
		raw, ok := bytes.CutSuffix(bytes.TrimSpace(call), []byte(")</script>"))
		if !ok || bytes.ContainsAny(raw, "<>&\u2028\u2029") {
			return fmt.Errorf("not a safe script: %.300q", line)
		}
		if err := take(raw, ""); err != nil {
			return err
		}
	}
}

// unwrap returns the argument of a script that calls a function.
func unwrap(script []byte, function string) ([]byte, error) {
	raw, before := bytes.CutPrefix(bytes.TrimSpace(script), []byte("/**/"+function+"("))
	raw, after := bytes.CutSuffix(raw, []byte(");"))
	if !before || !after || bytes.ContainsAny(raw, "<>&\u2028\u2029") {
		return nil, fmt.Errorf("not a safe call of %s: %.300q", function, script)
	}
	return raw, nil
}
