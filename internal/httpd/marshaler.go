package httpd

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/rpc"
)

// marshaler is JSON as the REST doors speak it.
type marshaler struct{}

var (
	_ runtime.Marshaler         = marshaler{}
	_ runtime.StreamContentType = marshaler{}
)

// ContentType implements [runtime.Marshaler].
func (marshaler) ContentType(any) string { return "application/json" }

// StreamContentType implements [runtime.StreamContentType].
func (marshaler) StreamContentType(any) string { return "application/x-ndjson" }

// Marshal implements [runtime.Marshaler] for messages, and for the lines of a
// stream, which the gateway hands over as a map of one message.
func (marshaler) Marshal(v any) ([]byte, error) {
	switch v := v.(type) {
	case proto.Message:
		return marshal(v)
	case map[string]any:
		for name, m := range v {
			if m, ok := m.(proto.Message); ok {
				return line(name, m)
			}
		}
	case map[string]proto.Message:
		for name, m := range v {
			return line(name, m)
		}
	}
	return nil, fmt.Errorf("encode %T: not a message", v)
}

// line is one line of a stream. Line breaks can stand only between the tokens
// of a JSON text, where a space says the same.
func line(name string, m proto.Message) ([]byte, error) {
	text, err := marshal(m)
	if err != nil {
		return nil, err
	}
	for i, c := range text {
		if c == '\n' || c == '\r' {
			text[i] = ' '
		}
	}
	return fmt.Appendf(nil, "{%q:%s}", name, text), nil
}

// Unmarshal implements [runtime.Marshaler].
func (marshaler) Unmarshal(text []byte, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("decode %T: not a message", v)
	}
	return unmarshal(text, m)
}

// NewEncoder implements [runtime.Marshaler].
func (m marshaler) NewEncoder(w io.Writer) runtime.Encoder {
	return runtime.EncoderFunc(func(v any) error {
		text, err := m.Marshal(v)
		if err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	})
}

// NewDecoder implements [runtime.Marshaler]. What is wrong with a *body is also
// kept there, since the gateway only passes its text on.
func (m marshaler) NewDecoder(r io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(v any) error {
		text, err := io.ReadAll(r)
		if err != nil {
			err = bodyError(err)
		} else if err = m.Unmarshal(text, v); err != nil {
			err = rpc.Error(codes.InvalidArgument, decodeReason(err), "request body: %v", err)
		}
		if b, ok := r.(*body); ok {
			b.fault = err
		}
		return err
	})
}

// body is a limited request body that remembers what was wrong with it.
type body struct {
	io.ReadCloser
	fault error
}

func bodyError(err error) error {
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return rpc.Error(codes.ResourceExhausted, channelv1.ErrorReason_ERROR_REASON_MESSAGE_TOO_LARGE,
			"request body: more than %d bytes", tooLarge.Limit)
	}
	return rpc.Error(codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_JSON_INVALID,
		"request body: it ended early: %v", err)
}

// decodeReason tells text that is not JSON from JSON that is not the message.
func decodeReason(err error) channelv1.ErrorReason {
	if errors.Is(err, errJSON) {
		return channelv1.ErrorReason_ERROR_REASON_JSON_INVALID
	}
	return channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID
}
