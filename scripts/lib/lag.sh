# shellcheck shell=bash
# Has everything that was written been worked off?

# group_lag DESCRIPTION: what `kafka-consumer-groups --describe` printed, as the sum of its lags; "unknown" where it lists no
# partition. One without a committed offset lags by all that it holds.
group_lag() {
    awk '$3 ~ /^[0-9]+$/ && $5 ~ /^[0-9]+$/ { partitions++; sum += $4 == "-" ? $5 : $6 }
        END { print partitions ? sum : "unknown" }' <<<"$1"
}

# connectors_lag: how many records our two sinks have still to fetch or to write, as Connect's own metrics tell; "unknown" while one
# has no running task. Not by committed offsets: those end at the last record, while the end marker of its transaction counts as lag
# for ever.
connectors_lag() {
    curl --silent --fail --max-time 5 "http://127.0.0.1:$CONNECT_METRICS_PORT/metrics" | awk '
        /^kafka_connect_sink_task_metrics_sink_record_active_count[{]/ { tasks++ }
        /^kafka_connect_sink_task_metrics_sink_record_active_count[{]/ ||
        /^kafka_consumer_consumer_fetch_manager_metrics_records_lag[{].*client_id="connector-consumer-kstream-/ {
            if ($NF > 0) sum += $NF
        }
        END { print tasks < 2 ? "unknown" : sum + 0 }'
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
