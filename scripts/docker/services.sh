#!/usr/bin/env bash
# services.sh FEED: servers and services, consoles unless CONSOLES=off; the simulator only if the feed is sim.
source "$(dirname "$0")/../lib/base.sh"
source "$ROOT/scripts/lib/docker.sh"

recall_ports
mapfile -t names < <(compose config --services | if [[ $1 == sim ]]; then cat; else grep -vxF deribit-sim; fi)
compose up --detach --wait --wait-timeout "${KSTREAM_DEADLINE:-300}" "${names[@]}" ||
    fail "$EXIT_UNAVAILABLE" "not everything came up" "see: make status, make logs; what runs was left running: make down"
