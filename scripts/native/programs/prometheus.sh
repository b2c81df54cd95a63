# shellcheck shell=bash
mkdir -p "$STATE/prometheus"
run prometheus --config.file="$STATE/etc/prometheus.yml" --storage.tsdb.path="$STATE/prometheus" --storage.tsdb.retention.size=1GB \
    --web.listen-address="127.0.0.1:$PROMETHEUS_PORT"
