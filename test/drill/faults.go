package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

// What can be done to a container. A drill that fails leaves it as it is.

func (s *site) kill(ctx context.Context, n *node) error {
	_, err := s.engine.ContainerKill(ctx, n.id, client.ContainerKillOptions{Signal: "KILL"})
	return err
}

// stop asks the process to end, and waits. A member of etcd would wait for its
// watchers to leave, who do not.
func (s *site) stop(ctx context.Context, n *node) error {
	patience := grace
	if strings.HasPrefix(n.Name, "etcd") {
		patience = 2
	}
	_, err := s.engine.ContainerStop(ctx, n.id, client.ContainerStopOptions{Timeout: &patience})
	return err
}

// revive starts a container again, and waits until it serves.
func (s *site) revive(ctx context.Context, n *node) error {
	if _, err := s.engine.ContainerStart(ctx, n.id, client.ContainerStartOptions{}); err != nil {
		return err
	}
	return s.ready(ctx, n)
}

// freeze stops all that the container does, as SIGSTOP would.
func (s *site) freeze(ctx context.Context, n *node) error {
	_, err := s.engine.ContainerPause(ctx, n.id, client.ContainerPauseOptions{})
	return err
}

func (s *site) thaw(ctx context.Context, n *node) error {
	_, err := s.engine.ContainerUnpause(ctx, n.id, client.ContainerUnpauseOptions{})
	return err
}

// leave takes a container off a network.
func (s *site) leave(ctx context.Context, n *node, network string) error {
	_, err := s.engine.NetworkDisconnect(ctx, network, client.NetworkDisconnectOptions{Container: n.id})
	return err
}

// join puts a container on a network again.
func (s *site) join(ctx context.Context, n *node, name string) error {
	_, err := s.engine.NetworkConnect(ctx, name, client.NetworkConnectOptions{
		Container: n.id, EndpointConfig: &network.EndpointSettings{Aliases: []string{s.alias(n, name)}},
	})
	return err
}

// whole returns an error unless every slot has a primary and all its copies, and
// etcd all its members.
func (s *site) whole() error {
	for _, e := range s.etcd {
		if err := e.serves(); err != nil {
			return err
		}
	}
	led, lacking := 0.0, 0.0
	for _, b := range s.brokers {
		primary, err := b.Metric(`comet_broker_slots{role="primary"}`)
		if err != nil {
			return err
		}
		under, err := b.Metric("comet_broker_slots_under_replicated")
		if err != nil {
			return err
		}
		alone, err := b.Metric(`comet_broker_slots_in_sync{copies="1"}`)
		if err != nil {
			return err
		}
		led, lacking = led+primary, lacking+max(under, alone)
	}
	if led != slots || lacking > 0 {
		return fmt.Errorf("of %d slots %v have a primary, and %v lack a copy", slots, led, lacking)
	}
	return nil
}

// spread returns an error unless the brokers lead about as many slots each.
func (s *site) spread() error { return s.share(slots / 4) }

// balanced returns an error unless the brokers lead as many slots each: then
// nothing moves any more by itself.
func (s *site) balanced() error { return s.share(slots / 3) }

// share returns an error unless every broker leads so many slots.
func (s *site) share(least float64) error {
	var counts []string
	even := true
	for _, b := range s.brokers {
		led, err := b.Metric(`comet_broker_slots{role="primary"}`)
		if err != nil {
			return err
		}
		even = even && led >= least
		counts = append(counts, fmt.Sprintf("%s leads %v", b.Name, led))
	}
	if !even {
		return fmt.Errorf("%s", strings.Join(counts, ", "))
	}
	return s.whole()
}

// busiest is the broker that leads the most slots.
func (s *site) busiest() (*node, error) {
	var most *node
	best := -1.0
	for _, b := range s.brokers {
		led, err := b.Metric(`comet_broker_slots{role="primary"}`)
		if err != nil {
			return nil, err
		}
		if led > best {
			most, best = b, led
		}
	}
	return most, nil
}

// etcdLeader is the member of etcd that leads.
func (s *site) etcdLeader() (*node, error) {
	for _, e := range s.etcd {
		req, err := http.NewRequest(http.MethodPost, "http://"+e.etcd+"/v3/maintenance/status", strings.NewReader("{}"))
		if err != nil {
			return nil, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		var status struct {
			Header struct {
				Member string `json:"member_id"`
			} `json:"header"`
			Leader string `json:"leader"`
		}
		err = json.NewDecoder(resp.Body).Decode(&status)
		_ = resp.Body.Close()
		if err != nil {
			return nil, err
		}
		if status.Leader == status.Header.Member {
			return e, nil
		}
	}
	return nil, errors.New("no member of etcd leads")
}
