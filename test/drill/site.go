// Package drill breaks real containers under load and watches what publishers
// and subscribers notice: three etcd members, three brokers, two edges and a
// presence, from images built of this tree.
//
//  1. Every publisher numbers the messages of each of its channels, keys them,
//     and repeats an unanswered one through another broker until it is
//     acknowledged. How long that took counts from the moment the message was
//     due, so an outage is not hidden by a publisher that waits.
//  2. Every follower must see the numbers of each channel rise by one from one
//     on: no gap, no disorder, no duplicate. Only a follower whose edge was
//     restarted may see again what it has seen.
//  3. What was acknowledged has reached every follower when a drill ends.
package drill

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	lan "github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/network"

	"github.com/comet-push/comet/test/internal/cluster"
)

const (
	slots = 256
	ready = time.Minute // for a container to serve
	grace = 40          // seconds for a container to end by itself, as in deploy/k8s
)

// node is one container. Its doors keep their addresses on this machine across
// restarts and networks.
type node struct {
	cluster.Process // its doors, and what they tell

	etcd string // the door of an etcd member
	id   string
}

// site is everything, on three networks: one is for the traffic, one for etcd's
// clients, and one for etcd's members among themselves.
type site struct {
	t      testing.TB
	engine *testcontainers.DockerClient
	image  string // tag of the images
	comet  string // the command, for operators
	host   string // of the engine
	lan    string
	store  string
	peers  string
	config string

	etcd, brokers, edges []*node
	presence             *node
}

// open builds the images and starts everything. It ends with the test, and its
// names are its own.
func open(ctx context.Context, t testing.TB) *site {
	t.Helper()
	t.Setenv("TESTCONTAINERS_RYUK_DISABLED", "true") // the test ends its containers itself
	engine, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = engine.Close() })
	s := &site{t: t, engine: engine, host: here(), image: "drill-" + strconv.Itoa(os.Getpid()), comet: cluster.Released(t)}
	s.build(ctx)
	s.config = cluster.Config(t, cluster.Open)
	// Of the networks of a container the engine publishes ports on the first by name.
	networks := []string{s.network(ctx), s.network(ctx), s.network(ctx)}
	slices.Sort(networks)
	s.lan, s.store, s.peers = networks[0], networks[1], networks[2]
	s.describe()
	s.t.Cleanup(s.close)
	s.all(func(n *node) error { return s.create(ctx, n) })
	s.all(func(n *node) error { return s.ready(ctx, n) })
	return s
}

// here is where the engine publishes ports. On this machine it is not loopback if
// that can be helped: the engine has a process copy every byte of that.
func here() string {
	host := os.Getenv("TESTCONTAINERS_HOST_OVERRIDE")
	if host != "" && !net.ParseIP(host).IsLoopback() {
		return host
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "127.0.0.1"
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	return "127.0.0.1"
}

// build builds the images under a tag of their own, for others may be building.
func (s *site) build(ctx context.Context) {
	s.t.Helper()
	build := exec.CommandContext(ctx, "make", "-C", "../..", "image")
	build.Env = append(os.Environ(), "TAG="+s.image)
	s.t.Cleanup(func() {
		for _, name := range []string{"comet:", "comet-etcd:"} {
			_, _ = s.engine.ImageRemove(context.Background(), name+s.image, client.ImageRemoveOptions{}) // it may not be there
		}
	})
	if out, err := build.CombinedOutput(); err != nil {
		s.t.Fatalf("make image: %v\n%s", err, out)
	}
}

func (s *site) network(ctx context.Context) string {
	s.t.Helper()
	n, err := network.New(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	testcontainers.CleanupNetwork(s.t, n)
	return n.Name
}

// describe gives everything its name and its doors.
func (s *site) describe() {
	s.t.Helper()
	const members, doors = 9, 4
	ports := cluster.Ports(s.t, members*doors)
	next := func(name string) *node {
		at := func(i int) string { return net.JoinHostPort(s.host, strconv.Itoa(ports[i])) }
		n := &node{Process: cluster.Process{Name: name, HTTP: at(0), GRPC: at(1), Internal: at(2)}, etcd: at(3)}
		ports = ports[doors:]
		return n
	}
	for i := range 3 {
		s.etcd = append(s.etcd, next(fmt.Sprintf("etcd-%d", i)))
		s.brokers = append(s.brokers, next(fmt.Sprintf("broker-%d", i)))
	}
	for i := range 2 {
		s.edges = append(s.edges, next(fmt.Sprintf("edge-%d", i)))
	}
	s.presence = next("presence-0")
}

// nodes are all nodes.
func (s *site) nodes() []*node {
	all := append([]*node{s.presence}, s.etcd...)
	return append(append(all, s.brokers...), s.edges...)
}

// all does something with all nodes at a time.
func (s *site) all(do func(n *node) error) {
	s.t.Helper()
	var group sync.WaitGroup
	for _, n := range s.nodes() {
		group.Go(func() {
			if err := do(n); err != nil {
				s.t.Errorf("%s: %v", n.Name, err)
			}
		})
	}
	group.Wait()
	if s.t.Failed() {
		s.t.FailNow()
	}
}

// create creates a container and starts it.
func (s *site) create(ctx context.Context, n *node) error {
	var request testcontainers.ContainerRequest
	if kind, _, _ := strings.Cut(n.Name, "-"); kind == "etcd" {
		s.member(&request, n)
	} else {
		s.service(&request, n, kind)
	}
	c, err := testcontainers.GenericContainer(ctx, testcontainers.GenericContainerRequest{
		ContainerRequest: request, Started: true, Logger: quiet{},
	})
	if c != nil {
		n.id = c.GetContainerID()
	}
	return err
}

// quiet is a logger for what every container says of its life.
type quiet struct{}

// Printf implements log.Logger.
func (quiet) Printf(string, ...any) {}

// close removes all containers, whatever state they are in.
func (s *site) close() {
	var group sync.WaitGroup
	for _, n := range s.nodes() {
		if n.id == "" {
			continue // it was never created
		}
		group.Go(func() {
			s.keepLog(n)
			remove := client.ContainerRemoveOptions{Force: true, RemoveVolumes: true}
			if _, err := s.engine.ContainerRemove(context.Background(), n.id, remove); err != nil {
				s.t.Errorf("remove %s: %v", n.Name, err)
			}
		})
	}
	group.Wait()
}

// member says how to run a member of etcd. It does not wait for the disk, which
// others use, too.
func (s *site) member(r *testcontainers.ContainerRequest, n *node) {
	var peers []string
	for _, e := range s.etcd {
		peers = append(peers, fmt.Sprintf("%s=http://%s:2380", e.Name, s.alias(e, s.peers)))
	}
	r.Image = "comet-etcd:" + s.image
	r.Networks = []string{s.store, s.peers}
	r.NetworkAliases = s.aliases(n, r.Networks)
	r.Cmd = []string{
		"--name=" + n.Name, "--data-dir=/data/etcd", "--unsafe-no-fsync",
		"--listen-client-urls=http://0.0.0.0:2379", "--advertise-client-urls=http://" + n.Name + ":2379",
		"--listen-peer-urls=http://0.0.0.0:2380", "--initial-advertise-peer-urls=http://" + s.alias(n, s.peers) + ":2380",
		"--initial-cluster=" + strings.Join(peers, ","),
	}
	publish(r, map[string]string{"2379/tcp": n.etcd})
}

// service says how to run a service of Comet.
func (s *site) service(r *testcontainers.ContainerRequest, n *node, target string) {
	r.Image = "comet:" + s.image
	r.Networks = []string{s.lan, s.store}
	r.NetworkAliases = s.aliases(n, r.Networks)
	r.Cmd = []string{
		"serve", "--target=" + target, "--config=/etc/comet/comet.yaml", "--node.name=" + n.Name, "--node.advertise=" + n.Name + ":7070",
		"--etcd.endpoints=http://etcd-0:2379,http://etcd-1:2379,http://etcd-2:2379",
	}
	if target == "edge" {
		// What a session misses while a slot recovers comes at once: that is not
		// a slow client.
		r.Cmd = append(r.Cmd, "--edge.queue-messages=20000", "--edge.queue-bytes=16MiB")
	}
	r.Files = []testcontainers.ContainerFile{{HostFilePath: s.config, ContainerFilePath: "/etc/comet/comet.yaml", FileMode: 0o644}}
	publish(r, map[string]string{"8080/tcp": n.HTTP, "9090/tcp": n.GRPC, "8081/tcp": n.Internal})
}

// alias is a node's name on a network. It is another one on that of etcd's
// members, so that they do not find each other on the one for their clients.
func (s *site) alias(n *node, network string) string {
	if network == s.peers {
		return "peer-" + n.Name
	}
	return n.Name
}

func (s *site) aliases(n *node, networks []string) map[string][]string {
	aliases := map[string][]string{}
	for _, network := range networks {
		aliases[network] = []string{s.alias(n, network)}
	}
	return aliases
}

// publish publishes ports at addresses of this machine that stay the same.
func publish(r *testcontainers.ContainerRequest, doors map[string]string) {
	bindings := lan.PortMap{}
	for port, door := range doors {
		_, at, _ := net.SplitHostPort(door)
		r.ExposedPorts = append(r.ExposedPorts, port)
		bindings[lan.MustParsePort(port)] = []lan.PortBinding{{HostPort: at}}
	}
	r.HostConfigModifier = func(h *container.HostConfig) { h.PortBindings = bindings }
}

// ready waits until a node serves.
func (s *site) ready(ctx context.Context, n *node) error {
	return within(ctx, ready, func() error { return n.serves() })
}

// serves returns an error unless a node serves: a member of etcd does when the
// others answer it.
func (n *node) serves() error {
	door := n.Internal
	if strings.HasPrefix(n.Name, "etcd") {
		door = n.etcd
	}
	resp, err := (&http.Client{Timeout: time.Second}).Get("http://" + door + "/readyz")
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s is not ready: %s", n.Name, resp.Status)
	}
	return nil
}

// keepLog keeps what a container has said, among the test's artifacts.
func (s *site) keepLog(n *node) {
	said, err := s.engine.ContainerLogs(context.Background(), n.id,
		client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		s.t.Logf("no log of %s: %v", n.Name, err)
		return
	}
	defer func() { _ = said.Close() }()
	file, err := os.Create(filepath.Join(s.t.ArtifactDir(), n.Name+".log"))
	if err != nil {
		s.t.Logf("no log of %s: %v", n.Name, err)
		return
	}
	defer func() { _ = file.Close() }()
	if _, err := stdcopy.StdCopy(file, file, said); err != nil {
		s.t.Logf("log of %s: %v", n.Name, err)
	}
}

// within asks again and again until there is no error, and returns the last one
// when that takes too long.
func within(ctx context.Context, d time.Duration, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("not within %v: %w", d, err)
		}
	}
}
