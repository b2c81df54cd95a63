# shellcheck shell=bash
# Waiting for programs to be well, all at once.

# wait_well SECONDS PROGRAM...: returns when each is well, saying so of each when it is; else shows what the late ones said last
wait_well() {
    local deadline=$((SECONDS + $1)) program late
    shift
    while (($# > 0)); do
        late=()
        for program in "$@"; do
            if is_well "$program"; then
                progress "$program is well"
            else
                late+=("$program")
            fi
        done
        set -- "${late[@]}"
        (($# == 0)) || {
            fail_if_given_up "$@"
            ((SECONDS < deadline)) || fail_late $EXIT_UNAVAILABLE "not well in time" "$@"
            sleep 0.2
        }
    done
}

# A program that ended and is not started again (its configuration is wrong) needs no waiting for.
fail_if_given_up() {
    local program
    for program in "$@"; do
        [[ $(remembered "ended/$program") != "$EXIT_CONFIG" ]] ||
            fail_late $EXIT_CONFIG "ended because its configuration is wrong (78)" "$program"
    done
}

# fail_late CODE WHY PROGRAM...
fail_late() {
    local code=$1 why=$2 program
    shift 2
    for program in "$@"; do
        printf -- '--- %s: the last lines of %s\n' "$program" "$STATE/logs/$program.log" >&2
        tail -n 15 "$STATE/logs/$program.log" >&2 || true
    done
    fail "$code" "$why: $*" "what runs was left running: make status, make logs, make down"
}
