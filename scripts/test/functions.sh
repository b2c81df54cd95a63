#!/usr/bin/env bash
# shellcheck disable=SC2016 # what is in single quotes is for another process
# The scripts' own functions where a mistake would be silent: lags that read as none, settings that are not taken.
source "$(dirname "$0")/../lib/base.sh"
source "$ROOT/scripts/lib/ports.sh"
source "$ROOT/scripts/lib/run_state.sh"
source "$ROOT/scripts/lib/feed.sh"
source "$ROOT/scripts/lib/lag.sh"

# A folder that stands for a checkout, for what reads .env and the state folder.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/scripts" "$folder/.run"
ln -s "$ROOT/scripts/lib" "$folder/scripts/lib"

# there [NAME=VALUE]... COMMAND: the first line that it prints in that checkout, as a process of its own
there() {
    env --ignore-environment "PATH=$PATH" "HOME=${HOME:-/root}" "${@:1:$#-1}" bash -c '
        for library in base ports run_state feed; do source "$0/scripts/lib/$library.sh"; done
        eval "$1"' "$folder" "${*: -1}" 2>&1 | head -n 1
}

# is WHAT EXPECTED GOT
is() { [[ $3 == "$2" ]] || fail 1 "$1: expected '$2', got '$3'"; }

groups="
GROUP        TOPIC          PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID
agg-producer deribit.trades 0         10             12             2   c /127.0.0.1 y
agg-producer deribit.trades 1         -              7              -   c /127.0.0.1 y
agg-producer deribit.trades 2         -              0              -   c /127.0.0.1 y"
is "a partition without a committed offset lags by all that it holds" 9 "$(group_lag "$groups")"
is "no lag" 0 "$(group_lag "agg-producer deribit.trades 0 12 12 0 c h y")"
is "a group that nobody knows" unknown "$(group_lag "Consumer group 'agg-producer' does not exist.")"

# lag_of METRICS: connectors_lag with these metrics
lag_of() {
    curl() { printf '%s\n' "$metrics"; }
    local metrics=$1 CONNECT_METRICS_PORT=0
    connectors_lag
}
trades='kafka_connect_sink_task_metrics_sink_record_active_count{connector="kstream-trades",task="0"}'
averages='kafka_connect_sink_task_metrics_sink_record_active_count{connector="kstream-moving-averages",task="0"}'
fetch='kafka_consumer_consumer_fetch_manager_metrics_records_lag{client_id="connector-consumer-kstream-trades-0",partition="0",topic="deribit.trades"}'
is "both sinks are idle" 0 "$(lag_of "$trades 0.0
$averages 0.0
$fetch 0.0")"
is "a sink that still writes" 3 "$(lag_of "$trades 3.0
$averages 0.0")"
is "a sink that has not read everything" 7 "$(lag_of "$trades 0.0
$averages 0.0
$fetch 7.0")"
is "a sink whose task is not there" unknown "$(lag_of "$trades 0.0")"

kafka='load_ports; echo $KAFKA_PORT'
is "a port by itself" 9092 "$(there "$kafka")"
is "a port from the environment" 1111 "$(there KAFKA_PORT=1111 "$kafka")"
is "all ports moved" 19092 "$(there KSTREAM_PORT_OFFSET=10000 "$kafka")"
printf '# KAFKA_PORT=1\nCOMPOSE_X=2\n KAFKA_PORT = "2222" # mine' >"$folder/.env"
is "a port from .env" 2222 "$(there "$kafka")"
is "the environment wins" 1111 "$(there KAFKA_PORT=1111 "$kafka")"
echo 'KAFKA_PORT=8081' >"$folder/.env"
is "one port twice" "error: KAFKA_PORT and REGISTRY_PORT are both 8081" "$(there "$kafka")"
echo 'KAFKA_PRT_PORT=1' >"$folder/.env"
is "an unknown port" "error: .env: KAFKA_PRT_PORT is no port of ours" "$(there "$kafka")"
rm "$folder/.env"
for value in 0 65536 abc 09092 -1; do
    is "no port" "error: KAFKA_PORT is '$value', which is no port" "$(there "KAFKA_PORT=$value" "$kafka")"
done
is "moved" "no yes" "$(there 'load_ports; moved KAFKA_PORT && echo yes; KAFKA_PORT=1; echo no $(moved KAFKA_PORT && echo yes)')"

is "servers as asked" native "$(there SERVERS=native decide_mode)"
is "no such servers" "error: SERVERS is 'podman'" "$(there SERVERS=podman decide_mode)"
echo native >"$folder/.run/mode"
is "servers as before" native "$(there decide_mode)"
is "other servers than before" "error: SERVERS=docker, but this checkout's servers and data are native" "$(there SERVERS=docker decide_mode)"
is "no such feed" "error: FEED is 'test'" "$(there FEED=test decide_feed)"
is "a feed as asked" live "$(there FEED=live decide_feed)"
echo sim >"$folder/.run/feed"
is "the feed as before" sim "$(there decide_feed)"
is "another feed than before" "error: FEED=live, but the data of this checkout came from FEED=sim, and the two do not mix" \
    "$(there FEED=live decide_feed)"
rate='settle_market; echo "${KSTREAM__MARKET__RATE:-}"'
is "another market than before" \
    "error: the simulator is asked for KSTREAM__MARKET__RATE=9, but the data of this checkout came from its defaults, and two markets do not mix" \
    "$(there KSTREAM__MARKET__RATE=9 "$rate")"
echo KSTREAM__MARKET__RATE=5 >"$folder/.run/market"
is "the market as before" 5 "$(there "$rate")"
is "the same market once more" 5 "$(there KSTREAM__MARKET__RATE=5 "$rate")"
rm "$folder/.run/feed"
is "a market for the first time" 7 "$(there KSTREAM__MARKET__RATE=7 "$rate")"
say "the scripts' functions: as they should be"
