#!/usr/bin/env bash
# endpoints.sh MODE FEED: what runs where, and how to look at it
source "$(dirname "$0")/lib/base.sh"
source "$ROOT/scripts/lib/ports.sh"

mode=$1 feed=$2
recall_ports
registry=http://127.0.0.1:$REGISTRY_PORT
postgres=postgresql://kstream@127.0.0.1:$POSTGRES_PORT/kstream

row() { printf '  %-18s %s\n' "$1" "$2"; }

say "what runs where"
if [[ $feed == sim ]]; then
    row "trades come from" "the simulator, ws://127.0.0.1:$DERIBIT_SIM_PORT/ws/api/v2 (metrics http://127.0.0.1:$DERIBIT_SIM_ADMIN_PORT/metrics)"
else
    row "trades come from" "Deribit"
fi
row "raw-producer" "http://127.0.0.1:$RAW_PRODUCER_PORT/metrics"
row "agg-producer" "http://127.0.0.1:$AGG_PRODUCER_PORT/metrics"
row "jdbc-sink" "http://127.0.0.1:$JDBC_SINK_PORT/metrics"
row "Kafka" "127.0.0.1:$KAFKA_PORT"
row "schema registry" "$registry"
row "Kafka Connect" "http://127.0.0.1:$CONNECT_PORT (metrics http://127.0.0.1:$CONNECT_METRICS_PORT/metrics)"
row "Postgres" "$postgres (password: secrets/postgres_password)"
row "Zipkin" "http://127.0.0.1:$ZIPKIN_PORT/zipkin"
if [[ $mode == docker ]] || has prometheus; then
    row "Prometheus" "http://127.0.0.1:$PROMETHEUS_PORT"
fi
if [[ $mode == docker && ${CONSOLES:-} != off ]]; then
    row "Redpanda Console" "http://127.0.0.1:$CONSOLE_PORT"
    row "AKHQ" "http://127.0.0.1:$AKHQ_PORT"
    row "pgAdmin" "http://127.0.0.1:$PGADMIN_PORT"
fi
[[ $mode == docker ]] || row "logs" "$STATE/logs"

# Debian builds its kcat without Avro: that one shows keys, times and sizes.
value="-s value=avro -r $registry/apis/ccompat/v7"
if has kcat && ! kcat -V | grep -q Avro; then
    value="-f '%T %k: %S bytes, partition %p, offset %o\n'"
fi
look="kcat -b 127.0.0.1:$KAFKA_PORT -C -o -2 -c 10 -e -q -X isolation.level=read_committed $value"
cat <<TEXT

how to look
  $look -t deribit.trades
  $look -t deribit.moving-averages
  export PGPASSWORD=\$(cat secrets/postgres_password)
  psql $postgres -c 'SELECT * FROM trades ORDER BY timestamp DESC LIMIT 5'
  psql $postgres -c 'SELECT * FROM moving_averages ORDER BY window_end DESC LIMIT 5'
  curl -s 'http://127.0.0.1:$ZIPKIN_PORT/api/v2/traces?serviceName=agg-producer&limit=1'
  make status · make logs · make pause · make down · make clean
TEXT
