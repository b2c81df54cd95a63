#!/usr/bin/env bash
# services.sh FEED: servers and services, consoles unless CONSOLES=off; the simulator only if the feed is sim.
source "$(dirname "$0")/../lib/base.sh"
source "$ROOT/scripts/lib/docker.sh"

recall_ports
mapfile -t names < <(compose config --services | if [[ $1 == sim ]]; then cat; else grep -vxF deribit-sim; fi)
if ! compose up --detach --wait --wait-timeout "${KSTREAM_DEADLINE:-300}" "${names[@]}"; then
    # A service that refuses its configuration is started again and again by the engine, and refuses it again.
    refusing=$(compose ps --all --format '{{.Service}} {{.ExitCode}}' | sed -n "s/ $EXIT_CONFIG\$//p" | tr '\n' ' ')
    [[ -z $refusing ]] || fail "$EXIT_CONFIG" "refuses its configuration: $refusing" "make logs says why; what runs was left running: make down"
    fail "$EXIT_UNAVAILABLE" "not everything came up" "see: make status, make logs; what runs was left running: make down"
fi
