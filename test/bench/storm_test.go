package bench

import "testing"

// BenchmarkStorm is what the server needs for a session when 10,000 clients
// come, 128 at a time, until each is subscribed; Faye's long-polling stands
// beside plain streams too, since it has none.
func BenchmarkStorm(b *testing.B) {
	for transport, theirs := range map[string]string{
		"long-polling": "long-polling", "websocket": "websocket", "sse": "long-polling", "ws": "websocket",
	} {
		b.Run(transport, func(b *testing.B) {
			once(b, func() {
				p := startComet(b)
				comet := storm(b, siteOf(p), transport)
				p.Kill()
				b.ReportMetric(comet.Server.CPUPerSession, "cpu-µs/session")
				b.ReportMetric(comet.Sessions.PerSecond, "sessions/s")
				if faye := startFaye(b); faye != nil {
					b.ReportMetric(comet.Server.CPUPerSession/storm(b, *faye, theirs).Server.CPUPerSession, "ratio-to-faye")
				}
			})
		})
	}
}

func storm(b *testing.B, s site, transport string) result {
	b.Helper()
	const clients = 10_000
	return tool(b, s, "storm", transport, clients)
}
