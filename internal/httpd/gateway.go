package httpd

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/comet-push/comet/gen"
	adminv1 "github.com/comet-push/comet/gen/comet/admin/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	presencev1 "github.com/comet-push/comet/gen/comet/presence/v1"
	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/internal/rpc"
)

const (
	// MaxBody is the largest request body, in bytes.
	MaxBody = 1 << 20

	bodyTimeout = 30 * time.Second
)

// Gateway is the REST door: the public gRPC services as JSON over HTTP. What
// the OpenAPI document does not have is refused, unknown query parameters too.
type Gateway struct {
	mux *runtime.ServeMux
	ops map[string]operations // by path
}

// operations are what can be done at one path, by HTTP method.
type operations map[string]operation

type operation struct {
	Tags       []string    `json:"tags"` // the service
	Parameters []parameter `json:"parameters"`
}

type parameter struct {
	Name string `json:"name"`
	In   string `json:"in"`
	Type string `json:"type"`
}

// The services a gateway can offer.
const (
	PubSub   = "PubSubService"
	Presence = "PresenceService"
	Admin    = "AdminService"
)

// NewGateway returns a gateway that calls the named services over conn.
func NewGateway(conn grpc.ClientConnInterface, services ...string) (*Gateway, error) {
	var doc struct {
		Paths map[string]map[string]operation `json:"paths"`
	}
	if err := json.Unmarshal(gen.OpenAPI, &doc); err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	g := &Gateway{ops: map[string]operations{}, mux: runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, marshaler{}),
		runtime.WithErrorHandler(writeError),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithOutgoingHeaderMatcher(noHeaders),
		runtime.WithOutgoingTrailerMatcher(noHeaders),
	)}
	for path, methods := range doc.Paths {
		g.ops[path] = operations{}
		for method, op := range methods {
			if len(op.Tags) == 1 && slices.Contains(services, op.Tags[0]) {
				g.ops[path][strings.ToUpper(method)] = op
			}
		}
	}
	register := map[string]func() error{
		PubSub: func() error {
			return pubsubv1.RegisterPubSubServiceHandlerClient(context.Background(), g.mux, pubsubv1.NewPubSubServiceClient(conn))
		},
		Presence: func() error {
			return presencev1.RegisterPresenceServiceHandlerClient(context.Background(), g.mux, presencev1.NewPresenceServiceClient(conn))
		},
		Admin: func() error {
			return adminv1.RegisterAdminServiceHandlerClient(context.Background(), g.mux, adminv1.NewAdminServiceClient(conn))
		},
	}
	for _, service := range services {
		if err := register[service](); err != nil {
			return nil, fmt.Errorf("register %s: %w", service, err)
		}
	}
	return g, nil
}

// noHeaders lets no metadata become a header.
func noHeaders(string) (string, bool) { return "", false }

// ServeHTTP implements [http.Handler].
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	if err := g.check(w, r); err != nil {
		writeError(r.Context(), nil, marshaler{}, w, r, err)
		return
	}
	inner := *r
	// Of the headers, the calls get to see who asks and nothing else.
	inner.Header = http.Header{"Content-Type": {"application/json"}}
	if who, ok := r.Header["Authorization"]; ok {
		inner.Header["Authorization"] = who
	}
	if r.Method == http.MethodPost {
		inner.Body = &body{ReadCloser: http.MaxBytesReader(w, r.Body, MaxBody)}
		// A body has to come in its time; the answer may take longer.
		deadline := http.NewResponseController(w)
		_ = deadline.SetReadDeadline(time.Now().Add(bodyTimeout)) // not every test's writer can
		defer func() { _ = deadline.SetReadDeadline(time.Time{}) }()
	}
	g.mux.ServeHTTP(w, &inner)
}

// check refuses what the OpenAPI document does not have.
func (g *Gateway) check(w http.ResponseWriter, r *http.Request) error {
	methods, ok := g.ops[r.URL.Path]
	if !ok {
		return status.Errorf(codes.NotFound, "nothing is at %s; /v1/openapi.json says what there is", r.URL.Path)
	}
	if len(methods) == 0 {
		return status.Errorf(codes.Unimplemented, "%s is not served by this process, whose target is another", r.URL.Path)
	}
	op, ok := methods[r.Method]
	if !ok {
		allowed := strings.Join(slices.Sorted(maps.Keys(methods)), ", ")
		w.Header().Set("Allow", allowed)
		return rpc.Error(codes.Unimplemented, channelv1.ErrorReason_ERROR_REASON_METHOD_NOT_ALLOWED,
			"%s takes %s, not %s", r.URL.Path, allowed, r.Method)
	}
	if err := checkQuery(op, r.URL); err != nil {
		return err
	}
	if r.Method == http.MethodPost {
		return checkContentType(r.Header.Get("Content-Type"))
	}
	return nil
}

func checkQuery(op operation, u *url.URL) error {
	invalid := func(format string, args ...any) error {
		return rpc.Error(codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID, format, args...)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return invalid("query: %v", err)
	}
	var allowed []string
	many := map[string]bool{}
	for _, p := range op.Parameters {
		if p.In == "query" {
			allowed = append(allowed, p.Name)
			many[p.Name] = p.Type == "array"
		}
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		repeats, ok := many[name]
		switch {
		case !ok && len(allowed) == 0:
			return invalid("unknown query parameter %q; none is allowed here", name)
		case !ok:
			return invalid("unknown query parameter %q; allowed: %s", name, strings.Join(allowed, ", "))
		case !repeats && len(query[name]) > 1:
			return invalid("query parameter %q is given %d times", name, len(query[name]))
		}
	}
	return nil
}

func checkContentType(header string) error {
	kind, params, err := mime.ParseMediaType(header)
	charset, given := params["charset"]
	if err != nil || kind != "application/json" || given && !strings.EqualFold(charset, "utf-8") {
		return rpc.Error(codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_CONTENT_TYPE_UNSUPPORTED,
			"content type %q is not understood; send Content-Type: application/json, in UTF-8", header)
	}
	return nil
}

// writeError answers with a status as JSON.
func writeError(
	_ context.Context, _ *runtime.ServeMux, m runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error,
) {
	if b, ok := r.Body.(*body); ok && b.fault != nil {
		err = b.fault
	}
	st := status.Convert(err)
	text, merr := m.Marshal(st.Proto())
	if merr != nil {
		text = []byte(`{"code":13,"message":"the error could not be encoded","details":[]}`)
	}
	code := httpStatus(err, st.Code())
	w.Header().Del("Transfer-Encoding") // the gateway sets it for streams
	w.Header().Set("Content-Type", m.ContentType(nil))
	if code == http.StatusServiceUnavailable || code == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(code)
	_, _ = w.Write(text) //nolint:gosec // JSON, and nosniff says so
}

// httpStatus is the gateway's, except where the reason knows better.
func httpStatus(err error, code codes.Code) int {
	switch rpc.Reason(err) {
	case channelv1.ErrorReason_ERROR_REASON_MESSAGE_TOO_LARGE:
		return http.StatusRequestEntityTooLarge
	case channelv1.ErrorReason_ERROR_REASON_CONTENT_TYPE_UNSUPPORTED:
		return http.StatusUnsupportedMediaType
	case channelv1.ErrorReason_ERROR_REASON_METHOD_NOT_ALLOWED:
		return http.StatusMethodNotAllowed
	}
	return runtime.HTTPStatusFromCode(code)
}
