package httpd

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/comet-push/comet/bayeux"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
)

// maxDepth is how deep a request may nest: data and the object around it.
const maxDepth = 64 + 1

// errJSON marks text that is not a JSON object at all.
var errJSON = errors.New("not a JSON object")

// unmarshal reads one JSON object into a message. It is protojson, except that
// fields with option comet.channel.v1.json take any JSON value, byte for byte,
// and that errors name the field and what is allowed.
func unmarshal(text []byte, m proto.Message) error {
	if err := bayeux.CheckObject(text, maxDepth); err != nil {
		return fmt.Errorf("%w: %w", errJSON, err)
	}
	var plain bytes.Buffer
	in := transcoder{out: &plain, raw: func(out *bytes.Buffer, value json.RawMessage) error {
		out.WriteByte('"')
		out.WriteString(base64.StdEncoding.EncodeToString(value))
		out.WriteByte('"')
		return nil
	}}
	if err := in.object(text, m.ProtoReflect().Descriptor(), ""); err != nil {
		return err
	}
	if err := protojson.Unmarshal(plain.Bytes(), m); err != nil {
		return errors.New(readable(err))
	}
	return nil
}

// marshal is the way back: protojson with default values, in which fields with
// option comet.channel.v1.json are the JSON they hold, left out when they hold
// nothing.
func marshal(m proto.Message) ([]byte, error) {
	text, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	var rich bytes.Buffer
	out := transcoder{out: &rich, raw: func(out *bytes.Buffer, value json.RawMessage) error {
		text, err := base64.StdEncoding.DecodeString(strings.Trim(string(value), `"`))
		if err != nil {
			return err
		}
		if len(text) == 0 {
			return errOmit
		}
		if !json.Valid(text) {
			return errors.New("not a JSON value")
		}
		out.Write(text)
		return nil
	}}
	if err := out.object(text, m.ProtoReflect().Descriptor(), ""); err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return rich.Bytes(), nil
}

// errOmit leaves a raw field out.
var errOmit = errors.New("omit")

// transcoder copies the JSON of a message and hands raw fields to a function,
// which writes what stands for them.
type transcoder struct {
	out *bytes.Buffer
	raw func(out *bytes.Buffer, value json.RawMessage) error
}

// object copies one message. path is where it stands, empty or ending in a dot.
func (t transcoder) object(text []byte, md protoreflect.MessageDescriptor, path string) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return fmt.Errorf("%q: want a JSON object", strings.TrimSuffix(path, "."))
	}
	t.out.WriteByte('{')
	seen := map[protoreflect.FieldNumber]bool{}
	first := true
	for dec.More() {
		fd, value, err := member(dec, md, path)
		if err != nil {
			return err
		}
		if seen[fd.Number()] {
			return fmt.Errorf("field %q is given twice", path+fd.JSONName())
		}
		seen[fd.Number()] = true

		before := t.out.Len()
		if !first {
			t.out.WriteByte(',')
		}
		fmt.Fprintf(t.out, "%q:", fd.JSONName()) // a proto name needs no escapes
		switch err := t.value(fd, value, path+fd.JSONName()); {
		case errors.Is(err, errOmit):
			t.out.Truncate(before)
		case err != nil:
			return err
		default:
			first = false
		}
	}
	t.out.WriteByte('}')
	return nil
}

// member reads a name and its value.
func member(dec *json.Decoder, md protoreflect.MessageDescriptor, path string) (protoreflect.FieldDescriptor, json.RawMessage, error) {
	tok, err := dec.Token()
	if err != nil {
		return nil, nil, err
	}
	name, _ := tok.(string)
	var value json.RawMessage
	if err := dec.Decode(&value); err != nil {
		return nil, nil, err
	}
	fd := md.Fields().ByJSONName(name)
	if fd == nil {
		fd = md.Fields().ByTextName(name)
	}
	if fd == nil {
		return nil, nil, fmt.Errorf("unknown field %q; allowed: %s", path+name, fieldNames(md))
	}
	return fd, value, nil
}

// value copies the value of a field.
func (t transcoder) value(fd protoreflect.FieldDescriptor, value json.RawMessage, path string) error {
	switch {
	case isRaw(fd):
		if err := t.raw(t.out, value); err != nil {
			return fmt.Errorf("field %q: %w", path, err)
		}
		return nil
	case !transcodes(fd):
		return json.Compact(t.out, value)
	case !fd.IsList() && value[0] == '{':
		return t.object(value, fd.Message(), path+".")
	case fd.IsList() && value[0] == '[':
		return t.list(value, fd.Message(), path)
	}
	return json.Compact(t.out, value) // of the wrong type: protojson says so
}

func (t transcoder) list(text []byte, md protoreflect.MessageDescriptor, path string) error {
	var items []json.RawMessage
	if err := json.Unmarshal(text, &items); err != nil {
		return err
	}
	t.out.WriteByte('[')
	for i, item := range items {
		if i > 0 {
			t.out.WriteByte(',')
		}
		if err := t.object(item, md, fmt.Sprintf("%s[%d].", path, i)); err != nil {
			return err
		}
	}
	t.out.WriteByte(']')
	return nil
}

func isRaw(fd protoreflect.FieldDescriptor) bool {
	raw, _ := proto.GetExtension(fd.Options(), channelv1.E_Json).(bool)
	return raw && fd.Kind() == protoreflect.BytesKind && !fd.IsList()
}

// transcodes reports whether raw fields may stand below a field: it holds
// messages of Comet, not well-known types, which have a JSON of their own.
func transcodes(fd protoreflect.FieldDescriptor) bool {
	return fd.Kind() == protoreflect.MessageKind && !fd.IsMap() &&
		strings.HasPrefix(string(fd.Message().FullName()), "comet.")
}

func fieldNames(md protoreflect.MessageDescriptor) string {
	names := make([]string, md.Fields().Len())
	for i := range names {
		names[i] = md.Fields().Get(i).JSONName()
	}
	return strings.Join(names, ", ")
}

// readable takes the package name and the deliberately varying spaces out of
// an error of protojson.
func readable(err error) string {
	text := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	text = strings.TrimPrefix(text, "proto: ")
	if _, rest, ok := strings.Cut(text, "): "); ok && strings.HasPrefix(text, "(line ") {
		return rest // the place is one in the transcoded text
	}
	return text
}
