package bench

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/comet-push/comet/test/internal/client"
	"github.com/comet-push/comet/test/internal/cluster"
)

// BenchmarkIdleTransports is what each of 15,000 clients costs that get no
// messages for 30 s: processor time, and by how much the server's memory grew.
func BenchmarkIdleTransports(b *testing.B) {
	const clients = 15_000
	for _, transport := range []string{
		"long-polling", "callback-polling", "websocket", "long-poll", "jsonp", "sse", "stream", "multipart", "frame", "ws",
	} {
		b.Run(transport, func(b *testing.B) {
			once(b, func() {
				idle := tool(b, siteOf(startComet(b, "--edge.jsonp")), "idle", transport, clients)
				b.ReportMetric(idle.Server.CPUPerClientSecond, "cpu-µs/client/s")
				b.ReportMetric(idle.Server.PSSPerClient, "pss-bytes/client")
			})
		})
	}
}

// BenchmarkIdleWays is the same for 2,000 clients that come over HTTP/1.1, over
// TLS that ends in the process, and over HTTP/2 within it: the latter two hold
// a goroutine for every request.
func BenchmarkIdleWays(b *testing.B) {
	const clients = 2000
	for _, transport := range []string{"sse", "long-polling"} {
		for _, way := range []string{"http1", "tls", "h2"} {
			b.Run(transport+"/"+way, func(b *testing.B) {
				once(b, func() { idleWay(b, transport, way, clients) })
			})
		}
	}
}

func idleWay(b *testing.B, transport, way string, clients int) {
	b.Helper()
	var args []string
	server := client.Server{HTTP2: way == "h2"}
	scheme := "http://"
	if way != "http1" {
		certificate := cluster.NewCertificate(b)
		server.Roots, scheme = certificate.Roots, "https://"
		args = []string{"--edge.tls-cert-file=" + certificate.CertFile, "--edge.tls-key-file=" + certificate.KeyFile}
	}
	p := startComet(b, args...)
	server.URL = scheme + p.HTTP
	empty, err := pss(p.Pid())
	if err != nil {
		b.Fatal(err)
	}
	leave := hold(b, client.Named(transport), server, clients)
	<-time.After(2 * time.Second) // what connecting set in motion
	used, took := usage(b, p.Pid(), 30*time.Second)
	full, err := pss(p.Pid())
	if err != nil {
		b.Fatal(err)
	}
	leave()
	p.Kill()
	b.ReportMetric(float64(used.Microseconds())/float64(clients)/took.Seconds(), "cpu-µs/client/s")
	b.ReportMetric(float64(full-empty)/float64(clients), "pss-bytes/client")
}

// hold connects clients to a channel, each over a connection of its own, until
// leave is called.
func hold(b *testing.B, transport client.Transport, server client.Server, clients int) (leave func()) {
	b.Helper()
	ctx, stop := context.WithCancel(b.Context())
	const together = 64
	turns := make(chan struct{}, together)
	failed := make(chan error, clients)
	var opened, held sync.WaitGroup
	for range clients {
		c := transport.New("/idle")
		turns <- struct{}{}
		opened.Add(1)
		held.Go(func() {
			err := c.Open(ctx, server)
			opened.Done()
			<-turns
			for err == nil {
				_, err = c.Next(ctx)
			}
			c.Close()
			if ctx.Err() == nil {
				failed <- err
			}
		})
	}
	opened.Wait()
	return func() {
		stop()
		held.Wait()
		if n := len(failed); n > 0 {
			b.Errorf("%d of %d clients were lost: %v", n, clients, <-failed)
		}
	}
}

// usage is how much processor time a process uses meanwhile.
func usage(b *testing.B, pid int, meanwhile time.Duration) (used, took time.Duration) {
	b.Helper()
	before, err := cpu(pid)
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	<-time.After(meanwhile)
	after, err := cpu(pid)
	if err != nil {
		b.Fatal(err)
	}
	return after - before, time.Since(began)
}
