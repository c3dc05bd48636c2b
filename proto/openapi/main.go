// Command openapi is the protoc plugin that writes the OpenAPI document: it is
// protoc-gen-openapiv2, run as a tool of this workspace, followed by what that
// has no option for. A schema of format json (see proto/openapi.yaml) loses the
// format, and with type string the type: no type means any JSON value.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	if err := generate(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "openapi:", err)
		os.Exit(1)
	}
}

func generate(in io.Reader, out io.Writer) error {
	var answer bytes.Buffer
	plugin := exec.Command("go", "tool", "protoc-gen-openapiv2") //nolint:noctx // ends with its input
	plugin.Stdin, plugin.Stdout, plugin.Stderr = in, &answer, os.Stderr
	if err := plugin.Run(); err != nil {
		return fmt.Errorf("run protoc-gen-openapiv2: %w", err)
	}
	var resp pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(answer.Bytes(), &resp); err != nil {
		return fmt.Errorf("read its answer: %w", err)
	}
	for _, file := range resp.GetFile() {
		text := anyValue([]byte(file.GetContent()))
		if !json.Valid(text) {
			return fmt.Errorf("%s would not be JSON", file.GetName())
		}
		file.Content = new(string(text))
	}
	text, err := proto.Marshal(&resp)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	_, err = out.Write(text)
	return err
}

// anyValue takes format json out. Every such schema has a description after it.
func anyValue(doc []byte) []byte {
	doc = regexp.MustCompile(`\s*"type": "string",\s*"format": "json",`).ReplaceAll(doc, nil)
	return regexp.MustCompile(`\s*"format": "json",`).ReplaceAll(doc, nil)
}
