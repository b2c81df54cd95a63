#!/usr/bin/env bash
# make test: every test, on a machine with nothing running; what it starts it stops.
BED=test BED_PORT_OFFSET=${KSTREAM_TEST_PORT_OFFSET:-10000}
# One build for the tests and for the services that they start.
export KSTREAM_PROFILE=dev
unset FEED FOR FAULTS EVERY SEED
# shellcheck source=scripts/lib/test_env.sh
source "$(dirname "$0")/lib/test_env.sh"

check_shell() {
    shellcheck scripts/*.sh scripts/*/*.sh scripts/native/programs/*.sh config/*/*.sh connect/*.sh .ci/run
    for test in scripts/test/*.sh; do
        "$test"
    done
}

check_dependencies() {
    if ! cargo deny --version >/dev/null 2>&1; then
        warn "cargo-deny is not installed: licences and advisories were NOT checked (cargo install --locked cargo-deny)"
        return
    fi
    cargo deny check licenses bans sources
    if cargo deny fetch db >/dev/null 2>&1; then
        cargo deny check advisories
    else
        warn "the database of advisories cannot be had here: advisories were NOT checked"
    fi
}

check_alerts() {
    if ! has promtool; then
        warn "promtool is not installed: alert rules were NOT checked (Debian: prometheus)"
        return
    fi
    promtool check config config/prometheus/prometheus.yml
    promtool test rules config/prometheus/rules/*.test.yml
}

# All tests that need no server.
unit_tests() {
    cargo test --locked --workspace --features e2e/real-servers -- --skip parallel:: --skip exclusive:: --skip pipeline_
}

# refused_with CODE COMMAND...
refused_with() {
    local code=0
    "${@:2}" || code=$?
    [[ $code == "$1" ]] || fail 1 "${*:2} ended with $code, not with $1"
}

# A partition may be on its way from one loop to another at the very moment.
all_healthy() {
    local left=30
    until scripts/status.sh; do
        ((left-- > 0)) || return 1
        sleep 2
    done
}

nothing_left() {
    scripts/down.sh
    ! pgrep --full --list-full -- "$STATE/" || fail 1 "make down left these processes"
}

make_test_env
require_programs "the tests" shellcheck=shellcheck

step "formatting" cargo fmt --all --check
step "shell scripts" check_shell
step "compose files" scripts/check-compose.sh
step "dependencies" check_dependencies
step "clippy" cargo clippy --locked --workspace --all-targets --features e2e/real-servers -- -D warnings
step "unit and mock-cluster tests" unit_tests
step "packages" scripts/native/prepare.sh sim
step "alert rules" check_alerts
step "build, downloads" scripts/native/build.sh
step "servers" scripts/servers.sh 7>&-
# Most of their time they wait.
step "real servers: suites side by side" e2e parallel:: --test-threads=6 --show-output
step "real servers: suites that stop servers" e2e exclusive:: --test-threads=1 --nocapture
step "pipeline on the simulator" env FEED=sim scripts/run.sh 7>&-
step "real servers: running" e2e pipeline_running --nocapture
step "status" all_healthy
step "another feed is refused" refused_with "$EXIT_CONFIG" env FEED=live scripts/run.sh
step "pause" scripts/pause.sh
step "real servers: paused" e2e pipeline_paused --nocapture
step "real servers: the proof" e2e pipeline_verify --nocapture
step "make run goes on" scripts/run.sh 7>&-
step "status" all_healthy
step "down" nothing_left

printf '\nall tests passed\n'
printf '%s\n' "${STEPS[@]}"
