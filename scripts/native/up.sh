#!/usr/bin/env bash
# up.sh PROGRAM...: starts those that do not run yet, all at once (each waits for what it needs), and waits until all are healthy.
source "$(dirname "$0")/../lib/base.sh"
source "$ROOT/scripts/lib/native.sh"
source "$ROOT/scripts/lib/service_env.sh"

# Root's Postgres runs as another user, whom the way to the checkout may be closed to.
postgres_folder() {
    if ! is_root; then
        say "$STATE/postgres"
        return
    fi
    id postgres >/dev/null 2>&1 ||
        fail "$EXIT_UNAVAILABLE" "there is no user postgres" "Postgres refuses to run as root: make that user, or run this as an ordinary one"
    say "/var/lib/kstream-agg/$(state_id)"
}

configure_postgres() {
    local folder
    folder=$(postgres_folder)
    mkdir -p "${folder%/*}" "$folder"
    chmod 700 "$folder"
    ! is_root || chown postgres: "$folder"
    write_if_changed "$STATE/etc/postgres.env" "$(printf 'POSTGRES_DATA=%q' "$folder")"
    ensure_postgres_password
}

configure_kafka() {
    render "$ROOT/servers/kafka.properties.in" "$STATE/etc/kafka.properties"
    cp "$ROOT/servers/log4j2.properties" "$STATE/etc/kafka.log4j2.properties"
}

configure_connect() {
    render "$ROOT/servers/connect.properties.in" "$STATE/etc/connect.properties" "PLUGIN_PATH=$PLUGIN_PATH"
    cp "$ROOT/servers/log4j2.properties" "$STATE/etc/connect.log4j2.properties"
    cp "$ROOT/servers/connect-jmx.yml" "$STATE/etc/connect.jmx.yml"
}

configure_prometheus() {
    cp -r "$ROOT/config/prometheus/." "$STATE/etc/prometheus/"
    rm -f "$STATE/etc/prometheus/targets/"*
    render "$ROOT/servers/prometheus-targets.yml.in" "$STATE/etc/prometheus/targets/native.yml"
    cat "$STATE"/etc/prometheus/{*.yml,*/*.yml} >"$STATE/etc/prometheus.all"
}

configure() {
    case $1 in
    postgres | kafka | connect | prometheus) "configure_$1" ;;
    deribit-sim | raw-producer | agg-producer | jdbc-sink) write_if_changed "$STATE/etc/$1.env" "$(service_env "$1")" ;;
    esac
}

load_ports
"$ROOT/scripts/native/fetch.sh"
# shellcheck source=/dev/null
source "$STATE/etc/native.env"
require_free_for "$@"
remember_ports
for program in "$@"; do
    configure "$program"
    declare_program "$program"
done
start_programs "$@"
wait_healthy "${KSTREAM_DEADLINE:-180}" "$@"
