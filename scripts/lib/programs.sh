# shellcheck shell=bash
# shellcheck disable=SC2034 # the lists are for those who source this
# What runs without Docker: the names that supervisor, logs and status use, the order, and how each says that it is healthy.

SERVERS_RUN=(postgres kafka registry connect zipkin)
SERVICES_RUN=(agg-producer jdbc-sink raw-producer)

# Stopped from the highest to the lowest: what writes before what it writes to, Postgres last.
declare -A STOP_ORDER=(
    [postgres]=10 [kafka]=20 [zipkin]=25 [prometheus]=26 [registry]=30 [connect]=40
    [jdbc-sink]=50 [agg-producer]=60 [deribit-sim]=70 [raw-producer]=80
)

# all_programs: those, and what depends on the machine and on the feed
server_programs() {
    printf '%s\n' "${SERVERS_RUN[@]}"
    ! has prometheus || say prometheus
}

service_programs() {
    [[ $1 != sim ]] || say deribit-sim
    printf '%s\n' "${SERVICES_RUN[@]}"
}

# program_script PROGRAM: what starts it, below scripts/native; our services start all alike
program_script() {
    case $1 in
    deribit-sim | agg-producer | jdbc-sink | raw-producer) say programs/service.sh ;;
    *) say "programs/$1.sh" ;;
    esac
}

# health_url PROGRAM: answers 2xx when it is healthy; nothing for those that do not speak HTTP
health_url() {
    case $1 in
    registry) say "http://127.0.0.1:$REGISTRY_HEALTH_PORT/health/ready" ;;
    connect) say "http://127.0.0.1:$CONNECT_PORT/health" ;;
    zipkin) say "http://127.0.0.1:$ZIPKIN_PORT/health" ;;
    prometheus) say "http://127.0.0.1:$PROMETHEUS_PORT/-/ready" ;;
    raw-producer) say "http://127.0.0.1:$RAW_PRODUCER_PORT/ready" ;;
    agg-producer) say "http://127.0.0.1:$AGG_PRODUCER_PORT/ready" ;;
    jdbc-sink) say "http://127.0.0.1:$JDBC_SINK_PORT/ready" ;;
    deribit-sim) say "http://127.0.0.1:$DERIBIT_SIM_ADMIN_PORT/ready" ;;
    esac
}

is_healthy() {
    case $1 in
    kafka) kafka_answers ;;
    postgres) "$(postgres_bin)/pg_isready" --quiet --host 127.0.0.1 --port "$POSTGRES_PORT" ;;
    *) http_ok "$(health_url "$1")" ;;
    esac
}

# Kafka speaks no HTTP: an ApiVersions request (key 18, version 0, correlation 1, no client id), whose answer is that correlation
# and error 0. A broker answers it from the moment when it takes requests.
kafka_answers() {
    local answer
    port_open "$KAFKA_PORT" || return 1
    answer=$(
        {
            printf '\0\0\0\x0a\0\x12\0\0\0\0\0\x01\xff\xff' >&3
            timeout 2 head -c 10 <&3 | od -An -tx1 -j4 | tr -d ' \n'
        } 3<>"/dev/tcp/127.0.0.1/$KAFKA_PORT" 2>/dev/null
    )
    [[ $answer == 000000010000 ]]
}
