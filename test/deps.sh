#!/usr/bin/env bash
# Installs what the tests need beside Go: Debian's packages, browsers and proxies
# among them (as root on Debian), a running Docker engine, and the npm packages of
# the reference clients. What cannot be installed is said; the tests that need it
# then skip, naming it.
set -euo pipefail
cd "$(dirname "$0")"

say() { printf 'test-deps: %s\n' "$*"; }

missing=()
PATH=$PATH:/usr/sbin
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }
need node nodejs
need npm npm
need dockerd docker.io
need containerd containerd
need runc runc
need iptables iptables
need chromium chromium
need firefox-esr firefox-esr
need curl curl
need nginx nginx-light
need haproxy haproxy

if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    # The tests start the servers that they need; none is to start by itself.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
      trap 'rm -f /usr/sbin/policy-rc.d' EXIT
      printf '#!/bin/sh\nexit 101\n' >$policy
      chmod +x $policy
    fi
    apt-get update -q >/dev/null
    apt-get install -qy --no-install-recommends "${missing[@]}" >/dev/null
  else
    say "not installed: ${missing[*]} (as root on Debian this script installs them)"
  fi
fi

if command -v dockerd >/dev/null && ! docker info >/dev/null 2>&1; then
  if [ "$(id -u)" = 0 ]; then
    say "starting dockerd (log: /var/log/dockerd.log)"
    # What a killed engine left behind keeps the next one from starting.
    grep -qsx dockerd /proc/[0-9]*/comm || rm -f /var/run/docker.pid /var/run/docker/containerd/containerd.pid
    setsid dockerd >/var/log/dockerd.log 2>&1 </dev/null &
    for _ in $(seq 60); do docker info >/dev/null 2>&1 && break; sleep 0.5; done
    docker info >/dev/null 2>&1 || say "dockerd did not start; see /var/log/dockerd.log"
  else
    say "Docker is not running; start it to run the container tests"
  fi
fi

if command -v npm >/dev/null && [ clients/package-lock.json -nt clients/node_modules/.package-lock.json ]; then
  say "installing the reference clients"
  (cd clients && npm ci --no-audit --no-fund --loglevel=error)
  touch clients/node_modules/.package-lock.json
fi
