#!/usr/bin/env bash
# Starts the servers that do not run yet and waits until all are well.
source "$(dirname "$0")/../lib/base.sh"
source "$ROOT/scripts/lib/native.sh"

# Root's Postgres runs as another user, whom the way to the checkout may be closed to.
postgres_folder() {
    if ! is_root; then
        say "$STATE/postgres"
        return
    fi
    id postgres >/dev/null 2>&1 ||
        fail $EXIT_UNAVAILABLE "there is no user postgres" "Postgres refuses to run as root: make that user, or run this as an ordinary one"
    say "/var/lib/kstream-agg/$(state_id)"
}

write_configuration() {
    local POSTGRES_DATA
    POSTGRES_DATA=$(postgres_folder)
    mkdir -p -m 755 "${POSTGRES_DATA%/*}"
    mkdir -p -m 700 "$POSTGRES_DATA"
    ! is_root || chown postgres: "$POSTGRES_DATA"
    printf 'POSTGRES_DATA=%q\n' "$POSTGRES_DATA" >"$STATE/etc/postgres.env"
    render "$ROOT/servers/kafka.properties.in" "$STATE/etc/kafka.properties"
    render "$ROOT/servers/connect.properties.in" "$STATE/etc/connect.properties"
    cp "$ROOT/servers/log4j2.properties" "$STATE/etc/kafka.log4j2.properties"
    cp "$ROOT/servers/log4j2.properties" "$STATE/etc/connect.log4j2.properties"
    cp "$ROOT/servers/connect-jmx.yml" "$STATE/etc/connect.jmx.yml"
    remember_ports
}

load_ports
# shellcheck source=/dev/null
source "$STATE/etc/native.env"
VENV=$SUPERVISOR
programs=(postgres kafka registry connect zipkin)
require_free_for_new "${programs[@]}"
ensure_postgres_password
write_configuration
for program in "${programs[@]}"; do
    declare_program "$program"
done
start_programs "${programs[@]}"
wait_well "${KSTREAM_SERVERS_DEADLINE:-180}" "${programs[@]}"
