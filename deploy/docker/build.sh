#!/usr/bin/env bash
# Builds comet:dev and comet-etcd:dev (or $TAG) into the local Docker engine:
# static binaries from this tree and from etcd's Go module, FROM scratch.
set -euo pipefail
cd "$(dirname "$0")/../.."
tag=${TAG:-dev}
version=$(git describe --tags --always --dirty 2>/dev/null || echo dev)

docker info >/dev/null 2>&1 || {
  echo "image: no Docker engine answers; start one (make test-deps does, as root on Debian)" >&2
  exit 1
}
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT

static() { # module folder, package, output, ldflags
  (cd "$1" && CGO_ENABLED=0 GOWORK=off go build -trimpath -buildvcs=false -ldflags "-s -w $4" -o "$3" "$2")
}
echo "image: building comet:$tag"
static . ./cmd/comet "$context/comet" "-X main.version=$version"
docker build -q -t "comet:$tag" -f deploy/docker/comet.Dockerfile "$context" >/dev/null

echo "image: building comet-etcd:$tag"
rm "$context/comet"
mkdir "$context/data"
static test go.etcd.io/etcd/server/v3 "$context/etcd" ""
docker build -q -t "comet-etcd:$tag" -f deploy/docker/etcd.Dockerfile "$context" >/dev/null
docker image ls --format '{{.Repository}}:{{.Tag}} {{.Size}}' | grep -E "^comet(-etcd)?:$tag "
