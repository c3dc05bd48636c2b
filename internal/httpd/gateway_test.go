package httpd_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/test/bufconn"

	"github.com/comet-push/comet/gen"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/internal/httpd"
	"github.com/comet-push/comet/internal/rpc"
)

// pubsub echoes what it is given.
type pubsub struct {
	pubsubv1.UnimplementedPubSubServiceServer
	published *pubsubv1.PublishRequest
}

func (p *pubsub) Publish(_ context.Context, req *pubsubv1.PublishRequest) (*pubsubv1.PublishResponse, error) {
	if req.GetChannel() == "/panic" {
		panic("as asked")
	}
	p.published = req
	return &pubsubv1.PublishResponse{Position: 1 << 52}, nil
}

func (p *pubsub) History(_ context.Context, req *pubsubv1.HistoryRequest) (*pubsubv1.HistoryResponse, error) {
	if req.GetSince() == "1" {
		return nil, rpc.Error(codes.OutOfRange, channelv1.ErrorReason_ERROR_REASON_HISTORY_LOST, "gone")
	}
	return &pubsubv1.HistoryResponse{Cursor: req.GetChannel()}, nil
}

func (p *pubsub) Subscribe(req *pubsubv1.SubscribeRequest, stream grpc.ServerStreamingServer[pubsubv1.SubscribeResponse]) error {
	for _, c := range req.GetChannels() {
		m := &channelv1.Message{Channel: c, Data: []byte("{\n}")}
		event := &pubsubv1.SubscribeResponse{Event: &pubsubv1.SubscribeResponse_Message{Message: m}}
		if err := stream.Send(event); err != nil {
			return err
		}
	}
	return rpc.Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_DRAINING, "bye")
}

// serve starts a gateway in front of a fake, both over memory.
func serve(t *testing.T) (*httptest.Server, *pubsub) {
	t.Helper()
	l := bufconn.Listen(1 << 16)
	server := rpc.NewServer(rpc.ServerConfig{Logger: slog.New(slog.DiscardHandler)}, l)
	fake := &pubsub{}
	pubsubv1.RegisterPubSubServiceServer(server, fake)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	pool := rpc.NewPool(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) })
	conn, err := pool.Conn("memory")
	if err != nil {
		t.Fatal(err)
	}
	gateway, err := httpd.NewGateway(conn, httpd.PubSub)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(gateway)
	t.Cleanup(func() {
		front.Close()
		_ = pool.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return front, fake
}

func ask(t *testing.T, method, url, contentType, body string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

func TestGateway(t *testing.T) {
	front, fake := serve(t)
	const js = "application/json"
	for _, tt := range []struct {
		name, method, path, contentType, body string
		status                                int
		want                                  string
	}{
		{
			"publish", "POST", "/v1/publish", js, `{"channel":"/a","data":{"z":9007199254740993,"a":1}}`, 200,
			`{"position":"4503599627370496","duplicate":false}`,
		},
		{"charset", "POST", "/v1/publish", js + `; charset="UTF-8"`, `{"channel":"/a","data":1}`, 200, `{"position":`},
		{"history", "GET", "/v1/history?channel=/a", "", "", 200, `{"messages":[],"cursor":"/a"}`},
		{"lost", "GET", "/v1/history?channel=/a&since=1", "", "", 400, `{"code":11,"message":"gone","details":[` +
			`{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"HISTORY_LOST","domain":"comet","metadata":{}}]}`},
		{"unknown field", "POST", "/v1/publish", js, `{"chanel":"/a"}`, 400, `unknown field \"chanel\"; allowed: channel, data`},
		{
			"unknown parameter", "GET", "/v1/history?chanel=/a", "", "", 400,
			`unknown query parameter \"chanel\"; allowed: channel, since, limit, reverse`,
		},
		{"parameter twice", "GET", "/v1/history?channel=/a&channel=/b", "", "", 400, `\"channel\" is given 2 times`},
		{"parameter of a post", "POST", "/v1/publish?channel=/a", js, `{}`, 400, "none is allowed here"},
		{"bad number", "GET", "/v1/history?channel=/a&limit=x", "", "", 400, `limit`},
		{"not JSON", "POST", "/v1/publish", js, `{"channel":`, 400, `"reason":"JSON_INVALID"`},
		{"nothing", "POST", "/v1/publish", js, ``, 400, `"reason":"JSON_INVALID"`},
		{"form", "POST", "/v1/publish", "application/x-www-form-urlencoded", `a=b`, 415, `"reason":"CONTENT_TYPE_UNSUPPORTED"`},
		{"latin", "POST", "/v1/publish", js + "; charset=latin1", `{}`, 415, "in UTF-8"},
		{"no type", "POST", "/v1/publish", "", `{}`, 415, "send Content-Type: application/json"},
		{"too large", "POST", "/v1/publish", js, `{"data":"` + strings.Repeat("x", 2<<20) + `"}`, 413, `"reason":"MESSAGE_TOO_LARGE"`},
		{"method", "GET", "/v1/publish", "", "", 405, `"reason":"METHOD_NOT_ALLOWED"`},
		{"nowhere", "GET", "/v1/nowhere", "", "", 404, `{"code":5,"message":"nothing is at /v1/nowhere`},
		{"not here", "GET", "/v1/presence?channel=/a", "", "", 501, "not served by this process"},
		{"panic", "POST", "/v1/publish", js, `{"channel":"/panic","data":1}`, 500, "internal error"},
		{
			"stream", "GET", "/v1/subscribe?channels=/a&channels=/b", "", "", 200,
			`{"result":{"message":{"channel":"/a","position":"0","data":{ }}}}` + "\n" +
				`{"result":{"message":{"channel":"/b","position":"0","data":{ }}}}` + "\n" +
				`{"error":{"code":14,"message":"bye"`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, header, text := ask(t, tt.method, front.URL+tt.path, tt.contentType, tt.body)
			if status != tt.status || !strings.Contains(text, tt.want) {
				t.Errorf("got %d %s\nwant %d %s", status, text, tt.status, tt.want)
			}
			if header.Get("X-Content-Type-Options") != "nosniff" || header.Get("Content-Type") == "" {
				t.Errorf("headers %v", header)
			}
			if tt.name == "publish" && string(fake.published.GetData()) != `{"z":9007199254740993,"a":1}` {
				t.Errorf("published %s", fake.published.GetData())
			}
		})
	}
}

func TestGatewayBodyCut(t *testing.T) {
	front, fake := serve(t)
	conn, err := net.Dial("tcp", front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.WriteString(conn, "POST /v1/publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+
		"Content-Length: 100\r\n\r\n{\"channel\":\"/a\",\"data\":1}")
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(conn)
	if !strings.Contains(string(answer), "400 Bad Request") || !strings.Contains(string(answer), "ended early") {
		t.Errorf("answer %s", answer)
	}
	if fake.published != nil {
		t.Error("half a message was published")
	}
}

func TestOpenAPIShowsRawFieldsAsAnyValue(t *testing.T) {
	for _, wrong := range []string{`"format": "byte"`, `"format": "json"`} {
		if strings.Contains(string(gen.OpenAPI), wrong) {
			t.Errorf("the document has %s; proto/openapi.yaml lacks a field", wrong)
		}
	}
}
