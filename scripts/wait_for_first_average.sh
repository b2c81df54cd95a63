#!/usr/bin/env bash
# wait_for_first_average.sh MODE [yes]: waits until a moving average can be read by a consumer that reads committed records only; with yes (nothing
# was there before) from the beginning, otherwise a new one.
source "$(dirname "$0")/lib/base.sh"

mode=$1
topic=${KSTREAM__TOPICS__MOVING_AVERAGES:-deribit.moving-averages}
seconds=${KSTREAM_AVERAGE_DEADLINE:-120}
log=$STATE/first-average.log
from=()
[[ ${2:-} != yes ]] || from=(--from-beginning)
progress "waiting for an average in $topic"
"$ROOT/scripts/$mode/wait_for_first_average.sh" "$topic" "$seconds" "${from[@]}" >"$log" || true
# The consumer ends with 0 after the time too; only its count tells.
grep -aq 'Processed a total of 1 messages' "$log" ||
    fail "$EXIT_UNAVAILABLE" "no average came in $seconds s" \
        "what runs was left running: make status, make logs; the consumer said: $(tail -n 1 "$log") ($log)"
progress "averages are there"
