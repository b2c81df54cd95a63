#!/usr/bin/env bash
# where.sh FEED: what runs where, and how to look at it
source "$(dirname "$0")/../lib/base.sh"
source "$ROOT/scripts/lib/ports.sh"

recall_ports
postgres=postgresql://kstream@127.0.0.1:$POSTGRES_PORT/kstream
[[ $1 == live ]] && feed="Deribit" || feed="the simulator, http://127.0.0.1:$DERIBIT_SIM_PORT (ready: http://127.0.0.1:$DERIBIT_SIM_ADMIN_PORT/ready)"
cat <<TEXT
what runs where
  trades come from   $feed
  Kafka              127.0.0.1:$KAFKA_PORT
  schema registry    http://127.0.0.1:$REGISTRY_PORT
  Kafka Connect      http://127.0.0.1:$CONNECT_PORT (metrics http://127.0.0.1:$CONNECT_METRICS_PORT/metrics)
  Postgres           $postgres (password: secrets/postgres_password)
  Zipkin             http://127.0.0.1:$ZIPKIN_PORT/zipkin
$(! has prometheus || say "  Prometheus         http://127.0.0.1:$PROMETHEUS_PORT")
  raw-producer       http://127.0.0.1:$RAW_PRODUCER_PORT/metrics
  agg-producer       http://127.0.0.1:$AGG_PRODUCER_PORT/metrics
  jdbc-sink          http://127.0.0.1:$JDBC_SINK_PORT/metrics
  logs               $STATE/logs

how to look
  kcat -b 127.0.0.1:$KAFKA_PORT -r http://127.0.0.1:$REGISTRY_PORT/apis/ccompat/v7 -s value=avro -X isolation.level=read_committed -C -t deribit.trades -o -5 -e
  kcat -b 127.0.0.1:$KAFKA_PORT -r http://127.0.0.1:$REGISTRY_PORT/apis/ccompat/v7 -s value=avro -X isolation.level=read_committed -C -t deribit.moving-averages -o -5 -e
  PGPASSWORD=\$(cat secrets/postgres_password) psql $postgres -c 'select * from trades order by timestamp desc limit 5'
  curl -s 'http://127.0.0.1:$ZIPKIN_PORT/api/v2/traces?serviceName=agg-producer&limit=1'

make status · make logs · make pause · make down · make clean
TEXT
