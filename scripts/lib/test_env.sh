# shellcheck shell=bash
# A test bed: servers with a state folder and ports of their own, so that a pipeline that runs is not disturbed, created again and
# deleted at the end; the folder lies beside the pipeline's own, which make clean removes. Sourced instead of base.sh, with BED
# (its name) and BED_PORT_OFFSET set.
export KSTREAM_STATE=.run.$BED KSTREAM_PORT_OFFSET=$BED_PORT_OFFSET SERVERS=native
unset "${!KSTREAM__@}" CONSOLES
# What a test says of its failure is to be found; where the runtime called it from hides it.
export RUST_BACKTRACE=0
# shellcheck source=scripts/lib/base.sh
source "$(dirname "${BASH_SOURCE[0]}")/base.sh"
source "$ROOT/scripts/lib/packages.sh"
source "$ROOT/scripts/lib/ports.sh"
source "$ROOT/scripts/lib/service_env.sh"
# Each command that is tried counts its own time.
export -n KSTREAM_STARTED
export KSTREAM_BIN
KSTREAM_BIN=$(binary_folder)

# step NAME COMMAND...
STEPS=()
step() {
    local began=${EPOCHREALTIME/[.,]/}
    printf '\n== %s\n' "$1"
    "${@:2}" || fail 1 "$1: failed"
    STEPS+=("$(printf '%7s s  %s' "$(seconds_since "$began")" "$1")")
}

# e2e NAME [OPTION...]: the tests over the real servers whose names begin so. Built for the whole workspace, so that no dependency
# is compiled again with other features.
e2e() { cargo test --locked --workspace --features e2e/real-servers --test it -- "$@" 7>&-; }

# make_test_env: an empty state folder; whatever the way out, what runs in it is stopped and deleted.
make_test_env() {
    cd "$ROOT"
    mkdir -p "$(dirname "$STATE")"
    exec 7>"$STATE.lock"
    flock --nonblock 7 || fail "$EXIT_UNAVAILABLE" "another make $BED is at work in this checkout" "wait for it"
    trap remove_test_env EXIT
    scripts/clean.sh 7>&-
    require_cargo
}

remove_test_env() {
    local code=$? kept
    trap '' INT TERM
    if ((code != 0)) && [[ -d $STATE/logs ]]; then
        kept=$(target_folder)/$BED-logs
        rm -rf "$kept"
        mkdir -p "$kept"
        cp -r "$STATE/logs/." "$kept"
        say "the servers' and services' logs: $kept"
    fi
    scripts/clean.sh >/dev/null || code=1
    exit "$code"
}
