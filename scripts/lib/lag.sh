# shellcheck shell=bash
# Has everything that was written been worked off?

# group_lag DESCRIPTION: what `kafka-consumer-groups --describe` printed, as the sum of its lags. A partition without a committed
# offset lags by all that it holds.
group_lag() {
    awk '$3 ~ /^[0-9]+$/ && $5 ~ /^[0-9]+$/ { sum += $4 == "-" ? $5 : $6 } END { print sum + 0 }' <<<"$1"
}

# connectors_busy METRICS: how many records Connect's sinks have still to write, as its own metrics tell. Not by committed offsets:
# those end at the last record, while a transaction's end marker behind it counts as lag for ever.
connectors_busy() {
    awk '/^kafka_connect_sink_task_metrics_sink_record_active_count[{ ]/ || /^kafka_consumer_fetch_manager_metrics_records_lag\{/ {
        if ($NF + 0 > 0) sum += $NF
    } END { print sum + 0 }' <<<"$1"
}

# wait_for_zero SECONDS WHAT COMMAND...: until the number that it prints is 0, twice in a row
wait_for_zero() {
    local deadline=$((SECONDS + $1)) what=$2 number zeros=0
    shift 2
    while ((zeros < 2)); do
        number=$("$@") || number=unknown
        if [[ $number == 0 ]]; then
            zeros=$((zeros + 1))
        else
            zeros=0
            ((SECONDS < deadline)) || fail "$EXIT_UNAVAILABLE" "$what has not caught up in time: $number to go" "see: make status, make logs"
            progress "$what: $number to go"
        fi
        ((zeros == 2)) || sleep 1
    done
    progress "$what has caught up"
}
