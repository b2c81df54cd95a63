#!/usr/bin/env bash
# wait_for_first_average.sh TOPIC SECONDS [OPTION]: Kafka's own consumer, in its container; its output is the log
source "$(dirname "$0")/../lib/base.sh"
source "$ROOT/scripts/lib/docker.sh"

recall_ports
topic=$1 seconds=$2
shift 2
kafka_tool kafka-console-consumer.sh --topic "$topic" "$@" --isolation-level read_committed --max-messages 1 --timeout-ms "${seconds}000" 2>&1
