# shellcheck shell=bash
# What our services are told by the environment: only what differs from their defaults, then whatever KSTREAM__ variables the
# command was given, which win.

# service_env SERVICE: lines to be sourced
service_env() {
    local name
    printf 'BINARY=%q\n' "$(binary "$1")"
    # Another build is another revision of the program.
    printf '# %s\n' "$(stat -c '%Y %s' "$(binary "$1")")"
    settings "$1" | sed 's/^/export /'
    for name in "${!KSTREAM__@}"; do
        printf 'export %s=%q\n' "$name" "${!name}"
    done
}

settings() {
    ! moved KAFKA_PORT || say "KSTREAM__KAFKA__BOOTSTRAP_SERVERS=127.0.0.1:$KAFKA_PORT"
    ! moved REGISTRY_PORT || say "KSTREAM__SCHEMA_REGISTRY__URL=http://127.0.0.1:$REGISTRY_PORT/apis/ccompat/v7"
    ! moved ZIPKIN_PORT || say "KSTREAM__TRACING__ZIPKIN_URL=http://127.0.0.1:$ZIPKIN_PORT/api/v2/spans"
    case $1 in
    raw-producer)
        ! moved RAW_PRODUCER_PORT || say "KSTREAM__ADMIN__LISTEN=127.0.0.1:$RAW_PRODUCER_PORT"
        [[ ${KSTREAM_FEED:-live} != sim ]] || say "KSTREAM__DERIBIT__URL=ws://127.0.0.1:$DERIBIT_SIM_PORT/ws/api/v2"
        ;;
    agg-producer)
        ! moved AGG_PRODUCER_PORT || say "KSTREAM__ADMIN__LISTEN=127.0.0.1:$AGG_PRODUCER_PORT"
        ;;
    jdbc-sink)
        ! moved JDBC_SINK_PORT || say "KSTREAM__ADMIN__LISTEN=127.0.0.1:$JDBC_SINK_PORT"
        ! moved CONNECT_PORT || say "KSTREAM__CONNECT__URL=http://127.0.0.1:$CONNECT_PORT"
        ! moved POSTGRES_PORT || say "KSTREAM__POSTGRES__URL=postgresql://kstream@127.0.0.1:$POSTGRES_PORT/kstream"
        ;;
    deribit-sim)
        ! moved DERIBIT_SIM_ADMIN_PORT || say "KSTREAM__ADMIN__LISTEN=127.0.0.1:$DERIBIT_SIM_ADMIN_PORT"
        ! moved DERIBIT_SIM_PORT || say "KSTREAM__LISTEN=127.0.0.1:$DERIBIT_SIM_PORT"
        ;;
    esac
}

# binary SERVICE: where cargo puts it
binary() { say "$(binary_folder)/$1"; }

# KSTREAM_PROFILE decides which binaries run: release (default), or dev, which make test builds once for its tests and for the
# services. Those have the failpoints.
binary_folder() {
    case ${KSTREAM_PROFILE:-release} in
    release) say "$(target_folder)/release" ;;
    dev) say "$(target_folder)/debug" ;;
    *) fail "$EXIT_CONFIG" "KSTREAM_PROFILE is '$KSTREAM_PROFILE'" "it takes release or dev" ;;
    esac
}

# build_options: what cargo builds them with, a word a line
build_options() {
    case ${KSTREAM_PROFILE:-release} in
    dev) printf '%s\n' --features e2e/real-servers ;;
    *) say --release ;;
    esac
}

target_folder() {
    local folder=${CARGO_TARGET_DIR:-target}
    [[ $folder == /* ]] || folder=$ROOT/$folder
    say "$folder"
}
