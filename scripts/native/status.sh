#!/usr/bin/env bash
# What supervisor says of each program, and whether the program says that it is healthy. One that was stopped on purpose is not unhealthy.
source "$(dirname "$0")/../lib/base.sh"
source "$ROOT/scripts/lib/native.sh"

address() {
    case $1 in
    kafka) say "127.0.0.1:$KAFKA_PORT" ;;
    postgres) say "127.0.0.1:$POSTGRES_PORT" ;;
    *) health_url "$1" ;;
    esac
}

recall_ports
supervisor_runs || fail 1 "nothing of this checkout runs" "start it: make run"
ill=0
while read -r program state rest; do
    case $state in
    STOPPED) verdict=paused ;;
    RUNNING) if is_healthy "$program"; then verdict=healthy; else verdict="UNHEALTHY"; fi ;;
    *) verdict="UNHEALTHY" ;;
    esac
    [[ $verdict != "UNHEALTHY" ]] || ill=1
    printf '%-13s %-9s %-8s %-42s %s\n' "$program" "$verdict" "$state" "$(address "$program")" "$rest"
done < <(program_states)
say "lag, dead letters, and the proof that rows are there: jdbc-sink status · jdbc-sink verify (docs/OPERATING.md)"
exit "$ill"
