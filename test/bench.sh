#!/usr/bin/env bash
# Runs the benchmarks of all modules, COUNT (5) times each, and prints what
# benchstat makes of them. BENCH narrows them down to a regular expression.
set -euo pipefail
cd "$(dirname "$0")/.."
count=${COUNT:-5} pattern=${BENCH:-.}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
CGO_ENABLED=0 go build -trimpath -o "$out/comet" ./cmd/comet
export COMET_BINARY=$out/comet

go test -run '^$' -bench "$pattern" -benchmem -count "$count" ./... | tee "$out/units.txt" | grep -E '^(Benchmark|pkg:)' || true
(cd test && go test -run '^$' -bench "$pattern" -count "$count" -timeout 60m ./bench/...) | tee "$out/system.txt" | grep -E '^Benchmark' || true
echo
.bin/benchstat "$out/units.txt" "$out/system.txt"
