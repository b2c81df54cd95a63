# shellcheck shell=bash
# Debian's Prometheus, with its data in the state folder.
mkdir -p "$STATE/prometheus"
run prometheus --config.file="$STATE/etc/prometheus/prometheus.yml" --storage.tsdb.path="$STATE/prometheus" \
    --storage.tsdb.retention.size=1GB --web.listen-address="127.0.0.1:$PROMETHEUS_PORT"
