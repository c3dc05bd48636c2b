package drill

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/comet-push/comet/test/internal/client"
)

// follow follows a pattern over a plain transport until ctx ends, and comes
// back when the connection breaks.
func follow(ctx context.Context, a *account, transport, pattern, edge string, opened func()) {
	c := client.Named(transport).From("earliest", pattern)
	defer c.Close()
	for ctx.Err() == nil {
		if err := openClient(ctx, c, edge); err != nil {
			sleep(ctx, 100*time.Millisecond)
			continue
		}
		opened()
		for {
			e, err := c.Next(ctx)
			if err != nil || e.Kind == client.End {
				break
			}
			a.heard(e)
		}
		a.again()
	}
}

func openClient(ctx context.Context, c *client.Client, edge string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return c.Open(ctx, client.Server{URL: "http://" + edge})
}

// heard notes an event of a plain channel.
func (a *account) heard(e client.Event) {
	switch e.Kind {
	case client.Message:
		var b body
		if err := json.Unmarshal(e.Data, &b); err != nil {
			a.fault("%s: %s: %v", a.name, e.Data, err)
			return
		}
		a.saw(e.Channel, b, e.Position)
	case client.Resync:
		a.fault("%s: history is gone: %v", a.name, e.Channels)
	case client.Opened, client.Heartbeat, client.Cursor, client.End:
	}
}

// watch follows channels with the CometD client, in a process of its own, until
// ctx ends. Subscribed is called for each channel.
func watch(ctx context.Context, a *account, edge string, channels []string, subscribed func()) error {
	args := []string{"../clients/watch.mjs", "--url", "http://" + edge + "/cometd", "--replay"}
	for _, channel := range channels {
		args = append(args, "--channel", channel)
	}
	cmd := exec.CommandContext(ctx, "node", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var e struct {
			Event, Channel, Error string
			N                     int
			Sent                  int64
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("%s: %w", lines.Bytes(), err)
		}
		switch e.Event {
		case "message":
			a.saw(e.Channel, body{N: e.N, At: e.Sent}, 0)
		case "subscribed":
			subscribed()
		case "session":
			a.again()
		case "resync":
			a.fault("%s: history of %s is gone", a.name, e.Channel)
		}
	}
	ended := cmd.Wait()
	if ctx.Err() == nil {
		return fmt.Errorf("%s ended: %w", a.name, ended)
	}
	return nil
}
