#!/usr/bin/env bash
# Runs every test of the three modules and ends with what was skipped and what
# would enable it. SKIP=forbid turns a skip into a failure. TEST_FLAGS go to go
# test. Packages of module test run one at a time: they start whole clusters.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
# Containers are ended by the tests themselves, and the engine is this machine's.
export TESTCONTAINERS_RYUK_DISABLED=${TESTCONTAINERS_RYUK_DISABLED:-true}
[ -n "${DOCKER_HOST:-}" ] || export TESTCONTAINERS_HOST_OVERRIDE=${TESTCONTAINERS_HOST_OVERRIDE:-127.0.0.1}
failed=0

section() { printf '\n== %s (%s)\n' "$1" "$(date +%T)"; }
tests() { # folder name flags...
  local folder=$1 name=$2; shift 2
  section "$name"
  # shellcheck disable=SC2086
  (cd "$folder" && "$BIN/gotestsum" --format pkgname-and-test-fails --hide-summary=skipped \
    --jsonfile "$out/$name.json" -- $TEST_FLAGS "$@" ./...) || failed=1
}

section build
go build ./... && (cd gen && go build ./...) && (cd test && go vet -tags k8s ./...) || failed=1
tests . units
# Never out of the cache: it does not know that the tests run the built binary.
tests test system -p 1 -count=1
go run ./test/internal/skips -mode "${SKIP:-allow}" "$out"/*.json || failed=1
exit "$failed"
