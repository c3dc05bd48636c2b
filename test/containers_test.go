package test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"

	"github.com/comet-push/comet/test/internal/cluster"
)

// TestContainers starts the images on one network, as deploys do, and runs the
// CometD client through them.
func TestContainers(t *testing.T) {
	if err := exec.Command("docker", "info").Run(); err != nil {
		t.Skip("no Docker engine answers: make test-deps starts one, as root on Debian")
	}
	build := exec.Command("make", "-C", "..", "image")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("make image: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	lan, err := network.New(ctx)
	if err != nil {
		t.Fatal(err)
	}
	testcontainers.CleanupNetwork(t, lan)
	c := &containers{t: t, lan: lan.Name, config: cluster.Config(t, cluster.Open)}
	// The container's user is not the one that runs the test.
	if err := os.Chmod(c.config, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(c.config), 0o755); err != nil {
		t.Fatal(err)
	}
	c.start(ctx, "etcd", "comet-etcd:dev", wait.ForHTTP("/readyz").WithPort("2379/tcp"),
		"--data-dir=/data/etcd", "--listen-client-urls=http://0.0.0.0:2379", "--advertise-client-urls=http://etcd:2379")
	var edge, broker testcontainers.Container
	for i := range 3 {
		broker = c.comet(ctx, fmt.Sprintf("broker-%d", i), "broker")
	}
	c.comet(ctx, "presence-0", "presence")
	for i := range 2 {
		edge = c.comet(ctx, fmt.Sprintf("edge-%d", i), "edge")
	}
	runClient(t, "cometd", "long-polling", c.address(ctx, edge, "8080/tcp"), c.address(ctx, broker, "8081/tcp"))
}

// containers starts containers on one network.
type containers struct {
	t           *testing.T
	lan, config string
}

// comet starts one service of the image.
func (c *containers) comet(ctx context.Context, name, target string) testcontainers.Container {
	c.t.Helper()
	ready := wait.ForHTTP("/readyz").WithPort("8081/tcp").
		WithStatusCodeMatcher(func(status int) bool { return status == http.StatusOK })
	return c.start(ctx, name, "comet:dev", ready.WithStartupTimeout(time.Minute),
		"serve", "--target="+target, "--config=/etc/comet/comet.yaml", "--etcd.endpoints=http://etcd:2379",
		"--node.name="+name, "--node.advertise="+name+":7070",
		"--edge.max-interval=3s", "--edge.poll-timeout=8s")
}

// start starts one container, named on the network, and ends it with the test.
func (c *containers) start(ctx context.Context, name, image string, ready wait.Strategy, args ...string) testcontainers.Container {
	c.t.Helper()
	container, err := testcontainers.GenericContainer(ctx, testcontainers.GenericContainerRequest{
		Started: true,
		ContainerRequest: testcontainers.ContainerRequest{
			Image:          image,
			Cmd:            args,
			Networks:       []string{c.lan},
			NetworkAliases: map[string][]string{c.lan: {name}},
			ExposedPorts:   exposed(image),
			WaitingFor:     ready,
			Files: []testcontainers.ContainerFile{
				{HostFilePath: c.config, ContainerFilePath: "/etc/comet/comet.yaml", FileMode: 0o644},
			},
		},
	})
	testcontainers.CleanupContainer(c.t, container)
	if err != nil {
		c.t.Fatalf("start %s: %v", name, err)
	}
	return container
}

// exposed are the ports a test asks of an image's containers.
func exposed(image string) []string {
	if image == "comet:dev" {
		return []string{"8080/tcp", "8081/tcp"}
	}
	return []string{"2379/tcp"}
}

// address is where a port of a container answers on this machine.
func (c *containers) address(ctx context.Context, container testcontainers.Container, port string) string {
	c.t.Helper()
	endpoint, err := container.PortEndpoint(ctx, port, "")
	if err != nil {
		c.t.Fatal(err)
	}
	return endpoint
}
