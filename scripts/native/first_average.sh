#!/usr/bin/env bash
# first_average.sh [yes]: waits until a moving average can be read by a consumer that reads committed records only; with yes (nothing was
# there before) from the beginning, otherwise a new one.
source "$(dirname "$0")/../lib/base.sh"
source "$ROOT/scripts/lib/ports.sh"
source "$ROOT/scripts/lib/kafka_tools.sh"

recall_ports
topic=${KSTREAM__TOPICS__MOVING_AVERAGES:-deribit.moving-averages}
from=()
[[ ${1:-} != yes ]] || from=(--from-beginning)
progress "waiting for an average in $topic"
kafka_tool org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "127.0.0.1:$KAFKA_PORT" --topic "$topic" \
    "${from[@]}" --isolation-level read_committed --max-messages 1 --timeout-ms "${KSTREAM_AVERAGE_DEADLINE:-120}000" \
    >"$STATE/logs/first-average.log" 2>&1
# The consumer ends with 0 after the time too; only its count tells.
grep -aq 'Processed a total of 1 messages' "$STATE/logs/first-average.log" ||
    fail "$EXIT_UNAVAILABLE" "no average came in ${KSTREAM_AVERAGE_DEADLINE:-120} s" \
        "what runs was left running: make status, make logs; the consumer said: $STATE/logs/first-average.log"
progress "averages are there"
