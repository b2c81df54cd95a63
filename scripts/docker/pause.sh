#!/usr/bin/env bash
# Stops raw-producer and simulator and waits for aggregator and connectors.
source "$(dirname "$0")/../lib/base.sh"
source "$ROOT/scripts/lib/docker.sh"

aggregator_lag() { group_lag "$(kafka_tool kafka-consumer-groups.sh --describe --group "${KSTREAM__GROUP_ID:-agg-producer}" \
    2>"$STATE/group.log")"; }

recall_ports
compose stop raw-producer deribit-sim
wait_for_zero "${KSTREAM_DEADLINE:-180}" "the aggregator" aggregator_lag
wait_for_zero "${KSTREAM_DEADLINE:-180}" "Connect" connectors_lag
