#!/usr/bin/env bash
# prepare.sh [FEED]: engine and compose are there, the ports are free, the files that compose mounts are made; nothing is started.
source "$(dirname "$0")/../lib/base.sh"
source "$ROOT/scripts/lib/docker.sh"

has docker || fail "$EXIT_UNAVAILABLE" "docker is missing" "install it (https://docs.docker.com/engine/install), or: make run SERVERS=native"
docker info >/dev/null 2>&1 ||
    fail "$EXIT_UNAVAILABLE" "no Docker engine answers: $(docker info 2>&1 | tail -n 1)" "start it, or: make run SERVERS=native"
docker compose version >/dev/null 2>&1 ||
    fail "$EXIT_UNAVAILABLE" "docker has no compose" "install the plugin (docker-compose-plugin), or: make run SERVERS=native"
has curl || fail "$EXIT_UNAVAILABLE" "curl is missing" "install it"

load_ports
mapfile -t running < <(compose ps --services --status running 2>/dev/null)
names=()
for entry in "${ALL_PORTS[@]}"; do
    read -r name _default owner <<<"$entry"
    case $owner in
    console | akhq | pgadmin | grafana) [[ ${CONSOLES:-} != off ]] || continue ;;
    deribit-sim) [[ ${1:-} == sim ]] || continue ;;
    raw-producer | agg-producer | jdbc-sink) [[ -n ${1:-} ]] || continue ;;
    esac
    [[ " ${running[*]} " == *" $owner "* ]] || names+=("$name")
done
require_free "${names[@]}"

ensure_postgres_password
write_if_changed "$STATE/compose.env" "$(
    [[ ${1:-} != sim ]] || say "KSTREAM__DERIBIT__URL=ws://deribit-sim:8090/ws/api/v2"
    for name in "${!KSTREAM__@}"; do
        say "$name=${!name}"
    done
)"
remember_ports
