# shellcheck shell=bash
# Waiting for programs to be healthy, all at once.

# wait_healthy SECONDS PROGRAM...: returns when each is healthy, saying so of each when it is; else shows what the late ones said last
wait_healthy() {
    local deadline=$((SECONDS + $1)) look=$((SECONDS + 3)) program late
    shift
    while true; do
        late=()
        for program in "$@"; do
            if is_healthy "$program"; then
                progress "$program is healthy"
            else
                late+=("$program")
            fi
        done
        set -- "${late[@]}"
        (($# > 0)) || return 0
        ((SECONDS < deadline)) || fail_late "$EXIT_UNAVAILABLE" "not healthy in time" "$@"
        if ((SECONDS >= look)); then
            look=$((SECONDS + 3))
            fail_if_given_up "$@"
        fi
        sleep 0.2
    done
}

# Supervisor does not start again what ended by itself with 0 or 78: no need to wait for it.
fail_if_given_up() {
    local ended
    ended=$(program_states | awk '$2 ~ /EXITED|FATAL/ { print $1 }' | grep -xF "$(printf '%s\n' "$@")" | head -n 1) || return 0
    fail_late "$EXIT_CONFIG" "ended, and is not started again (its configuration is wrong)" "$ended"
}

# fail_late CODE WHY PROGRAM...
fail_late() {
    local code=$1 why=$2 program
    shift 2
    for program in "$@"; do
        printf -- '--- %s: the last lines of %s\n' "$program" "$STATE/logs/$program.log" >&2
        tail -n 15 "$STATE/logs/$program.log" >&2 || true
    done
    fail "$code" "$* $why" "what runs was left running: make status, make logs, make down"
}
