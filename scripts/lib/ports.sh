# shellcheck shell=bash
# The ports: all of them here, each movable by a line `NAME=number` in .env, which compose reads as well.

# name, default, whose it is
ALL_PORTS=(
    "KAFKA_PORT 9092 kafka"
    "KAFKA_CONTROLLER_PORT 9093 kafka"
    "REGISTRY_PORT 8081 registry"
    "REGISTRY_HEALTH_PORT 9000 registry"
    "CONNECT_PORT 8083 connect"
    "CONNECT_METRICS_PORT 9404 connect"
    "POSTGRES_PORT 5432 postgres"
    "ZIPKIN_PORT 9411 zipkin"
    "PROMETHEUS_PORT 9090 prometheus"
    "RAW_PRODUCER_PORT 9101 raw-producer"
    "AGG_PRODUCER_PORT 9102 agg-producer"
    "JDBC_SINK_PORT 9103 jdbc-sink"
    "DERIBIT_SIM_PORT 8090 deribit-sim"
    "DERIBIT_SIM_ADMIN_PORT 9104 deribit-sim"
    "CONSOLE_PORT 8080 console"
    "AKHQ_PORT 8082 akhq"
    "PGADMIN_PORT 5050 pgadmin"
    "GRAFANA_PORT 3000 grafana"
)

# Sets a variable for each port: environment before .env before default, each moved by KSTREAM_PORT_OFFSET.
load_ports() {
    local name default _owner value
    local -A in_env=() seen=()
    read_env_file in_env
    for entry in "${ALL_PORTS[@]}"; do
        read -r name default _owner <<<"$entry"
        value=${!name:-${in_env[$name]:-$default}}
        check_port "$name" "$value"
        value=$((value + ${KSTREAM_PORT_OFFSET:-0}))
        [[ -z ${seen[$value]:-} ]] ||
            fail "$EXIT_CONFIG" "${seen[$value]} and $name are both $value" "give one of them another port in .env"
        seen[$value]=$name
        printf -v "$name" '%d' "$value"
    done
}

# The ports of what was started, for the commands that act on it: .env may have changed since.
recall_ports() {
    if [[ -f $STATE/ports ]]; then
        # shellcheck source=/dev/null
        source "$STATE/ports"
    else
        load_ports
    fi
}

remember_ports() {
    local name _rest
    for entry in "${ALL_PORTS[@]}"; do
        read -r name _rest <<<"$entry"
        printf '%s=%d\n' "$name" "${!name}"
    done >"$STATE/ports.new"
    mv "$STATE/ports.new" "$STATE/ports"
}

# read_env_file ARRAY: the lines NAME_PORT=number of .env; other lines are compose's own business.
read_env_file() {
    local -n found=$1
    local line
    [[ -f $ROOT/.env ]] || return 0
    while IFS= read -r line || [[ -n $line ]]; do
        [[ $line =~ ^[[:space:]]*(export[[:space:]]+)?([A-Z_]+_PORT)[[:space:]]*=[[:space:]]*[\"\']?([^\"\'#[:space:]]*) ]] || continue
        known_port "${BASH_REMATCH[2]}" ||
            fail "$EXIT_CONFIG" ".env: ${BASH_REMATCH[2]} is no port of ours" "known: $(printf '%s ' "${ALL_PORTS[@]%% *}")"
        # shellcheck disable=SC2034 # the caller has it
        found["${BASH_REMATCH[2]}"]=${BASH_REMATCH[3]}
    done <"$ROOT/.env"
}

# moved NAME: is it another than the default?
moved() {
    local entry
    for entry in "${ALL_PORTS[@]}"; do
        [[ $entry != "$1 ${!1} "* ]] || return 1
    done
}

known_port() {
    local entry
    for entry in "${ALL_PORTS[@]}"; do
        [[ ${entry%% *} != "$1" ]] || return 0
    done
    return 1
}

check_port() {
    if ! [[ $2 =~ ^[1-9][0-9]{0,4}$ ]] || (($2 > 65535)); then
        fail "$EXIT_CONFIG" "$1 is '$2', which is no port" "give a number from 1 to 65535 in .env or in the environment"
    fi
}

# ports_of OWNER: the names of its ports
ports_of() {
    local name _default owner
    for entry in "${ALL_PORTS[@]}"; do
        read -r name _default owner <<<"$entry"
        [[ $owner != "$1" ]] || say "$name"
    done
}

# require_free NAME...: fails, naming all that are taken at once, if somebody listens there
require_free() {
    local name taken=()
    for name in "$@"; do
        ! port_open "${!name}" ||
            taken+=("port ${!name} is taken$(listener_on "${!name}"): put $name=<free port> into .env to move it")
    done
    ((${#taken[@]} == 0)) || fail "$EXIT_CONFIG" "${taken[@]}" "nothing was started"
}

# listener_on PORT: " by java (pid 123)", or nothing where that cannot be seen (another user's process)
listener_on() {
    local inode link pid
    inode=$(awk -v port="$(printf ':%04X' "$1")" \
        '$4 == "0A" && substr($2, length($2) - 4) == port { print $10; exit }' /proc/net/tcp /proc/net/tcp6 2>/dev/null) || return 0
    [[ -n $inode && $inode != 0 ]] || return 0
    link=$(find /proc/[0-9]*/fd -maxdepth 1 -lname "socket:\[$inode\]" -print -quit 2>/dev/null) || true
    [[ -n $link ]] || return 0
    pid=${link#/proc/}
    pid=${pid%%/*}
    printf ' by %s (pid %s)' "$(<"/proc/$pid/comm")" "$pid"
}
