#!/usr/bin/env bash
# make test: every test, on a machine with nothing running; what it starts it stops. The servers have a state folder and ports of
# their own, so that a pipeline that runs is not disturbed.
export KSTREAM_STATE=.run/test KSTREAM_PORT_OFFSET=${KSTREAM_TEST_PORT_OFFSET:-10000}
unset "${!KSTREAM__@}" FEED CONSOLES
export SERVERS=native
source "$(dirname "$0")/lib/base.sh"
source "$ROOT/scripts/lib/packages.sh"
source "$ROOT/scripts/lib/ports.sh"
source "$ROOT/scripts/lib/service_env.sh"

# step NAME COMMAND...
step() {
    local began=${EPOCHREALTIME/[.,]/}
    printf '\n== %s\n' "$1"
    "${@:2}" || fail 1 "$1: failed"
    STEPS+=("$(printf '%7s s  %s' "$(seconds_since "$began")" "$1")")
}
STEPS=()
# Each command that is tried counts its own time.
export -n KSTREAM_STARTED

check_shell() {
    shellcheck scripts/*.sh scripts/*/*.sh scripts/native/programs/*.sh config/*/*.sh connect/*.sh .ci/run
    for test in scripts/test/*.sh; do
        "$test"
    done
}

check_dependencies() {
    if cargo deny --version >/dev/null 2>&1; then
        cargo deny check
    else
        warn "cargo-deny is not installed: licences and advisories were NOT checked (cargo install --locked cargo-deny)"
    fi
}

check_compose() {
    if [[ -x scripts/check-compose.sh ]]; then
        scripts/check-compose.sh
    fi
}

# Of the whole workspace, so that no dependency is compiled again with other features.
e2e() { cargo test --locked --workspace --features e2e/real-servers --test "$1" -- --nocapture; }

# The raw producer between an exchange that breaks and a real Kafka, in topics of its own. The minute without Kafka is a long run's.
every_trade_once() {
    (
        load_ports
        set -a
        eval "$(settings raw-producer)"
        unset KSTREAM__ADMIN__LISTEN
        cargo test --locked -p raw-producer --test broker -- --ignored --nocapture --skip kafka_is_away
    )
}

# refused_with CODE COMMAND...
refused_with() {
    local code=0
    "${@:2}" || code=$?
    [[ $code == "$1" ]] || fail 1 "${*:2} ended with $code, not with $1"
}

nothing_left() {
    scripts/down.sh
    ! pgrep --full --list-full -- "$STATE/" || fail 1 "make down left these processes"
}

# On whatever way out: stopped and thrown away, but the logs of a failure are kept.
finish() {
    local code=$? kept
    trap '' INT TERM
    if ((code != 0)) && [[ -d $STATE/logs ]]; then
        kept=$(target_folder)/test-logs
        rm -rf "$kept"
        mkdir -p "$kept"
        cp -r "$STATE/logs/." "$kept"
        say "the servers' and services' logs: $kept"
    fi
    scripts/clean.sh >/dev/null || code=1
    exit "$code"
}

cd "$ROOT"
mkdir -p "$(dirname "$STATE")"
exec 7>"$STATE.lock"
flock --nonblock 7 || fail "$EXIT_UNAVAILABLE" "another make test is at work in this checkout" "wait for it"
trap finish EXIT
scripts/clean.sh 7>&-

require_cargo
require_programs "the tests" shellcheck=shellcheck
export KSTREAM_BIN
KSTREAM_BIN=$(target_folder)/release

step "formatting" cargo fmt --all --check
step "shell scripts" check_shell
step "compose files" check_compose
step "dependencies" check_dependencies
step "clippy" cargo clippy --locked --workspace --all-targets --features e2e/real-servers -- -D warnings
step "unit and mock-cluster tests" cargo test --locked --workspace
step "packages, downloads" scripts/native/prepare.sh sim
step "release build" scripts/native/build.sh
step "servers" scripts/servers.sh 7>&-
step "real servers: what is refused" e2e refusals
step "real servers: every trade once, whatever breaks" every_trade_once
step "pipeline on the simulator" env FEED=sim scripts/run.sh 7>&-
step "real servers: running" e2e running
step "status" scripts/status.sh
step "another feed is refused" refused_with "$EXIT_CONFIG" env FEED=live scripts/run.sh
step "pause" scripts/pause.sh
step "real servers: at rest" e2e at_rest
step "real servers: the proof" e2e sink
step "make run goes on" scripts/run.sh 7>&-
step "status" scripts/status.sh
step "down" nothing_left

printf '\nall tests passed\n'
printf '%s\n' "${STEPS[@]}"
