#!/usr/bin/env bash
# Only the servers.
source "$(dirname "$0")/../lib/base.sh"
source "$ROOT/scripts/lib/docker.sh"

recall_ports
compose up --detach --build --wait --wait-timeout "${KSTREAM_DEADLINE:-300}" \
    kafka registry connect postgres zipkin prometheus ||
    fail "$EXIT_UNAVAILABLE" "not all servers came up" "see: make status, make logs; what runs was left running: make down"
