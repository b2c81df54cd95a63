#!/usr/bin/env bash
# Stops raw-producer and simulator and waits for aggregator and connectors.
source "$(dirname "$0")/../lib/base.sh"
source "$ROOT/scripts/lib/ports.sh"
source "$ROOT/scripts/lib/run_state.sh"
source "$ROOT/scripts/lib/supervisor.sh"
source "$ROOT/scripts/lib/kafka_tools.sh"
source "$ROOT/scripts/lib/lag.sh"

aggregator_lag() {
    group_lag "$(kafka_tool org.apache.kafka.tools.consumer.group.ConsumerGroupCommand --describe --group "${KSTREAM__GROUP_ID:-agg-producer}" \
        2>"$STATE/group.log")"
}

recall_ports
supervisor_runs || fail 1 "nothing of this checkout runs" "start it: make run"
for program in raw-producer deribit-sim; do
    [[ ! -e $STATE/etc/programs/$program.conf ]] || ctl stop "$program"
done
wait_for_zero "${KSTREAM_DEADLINE:-180}" "the aggregator" aggregator_lag
wait_for_zero "${KSTREAM_DEADLINE:-180}" "Connect" connectors_lag
