# shellcheck shell=bash
# The same pipeline in containers: docker-compose.yml, and with consoles unless CONSOLES=off.
source "$ROOT/scripts/lib/ports.sh"
source "$ROOT/scripts/lib/run_state.sh"
source "$ROOT/scripts/lib/render.sh"
source "$ROOT/scripts/lib/lag.sh"

# Compose refuses a limit above what the machine has.
KSTREAM_CPUS=${KSTREAM_CPUS:-$(n=$(getconf _NPROCESSORS_ONLN) && say $((n < 2 ? n : 2)))}
export KSTREAM_CPUS

# compose ARGUMENT...: on everything that this checkout may have started, whatever it was started with. Its project, and so its
# containers and volumes, are named after the state folder: another checkout's are not touched, and an old one's data not found.
compose() {
    local files=(--file docker-compose.yml)
    [[ ${CONSOLES:-} == off || ! -e $ROOT/docker-compose.override.yaml ]] || files+=(--file docker-compose.override.yaml)
    export_ports
    (cd "$ROOT" && docker compose --project-name "kstream-agg-$(state_id)" "${files[@]}" --profile sim "$@") 9>&-
}

export_ports() {
    local entry
    for entry in "${ALL_PORTS[@]}"; do
        export "${entry%% *}"
    done
}

kafka_tool() {
    local tool=$1
    shift
    compose exec -T kafka "/opt/kafka/bin/$tool" --bootstrap-server kafka:19092 "$@"
}
