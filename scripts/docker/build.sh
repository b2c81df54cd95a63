#!/usr/bin/env bash
# Our images, and the servers' by pulling.
source "$(dirname "$0")/../lib/base.sh"
source "$ROOT/scripts/lib/docker.sh"

recall_ports
compose build
# A configuration that is wrong is found before anything starts.
for service in deribit-sim agg-producer jdbc-sink raw-producer; do
    compose run --rm --no-deps -T "$service" --check-config || exit
done
