#!/usr/bin/env bash
# Supervisor stops its programs in order (services, Connect, registry, Kafka, Postgres) and then itself.
source "$(dirname "$0")/../lib/base.sh"
source "$ROOT/scripts/lib/run_state.sh"
source "$ROOT/scripts/lib/supervisor.sh"

if ! supervisor_runs; then
    say "nothing of this checkout runs"
    exit
fi

# family PID: it and everything below it
family() {
    local child
    say "$1"
    for child in $(pgrep --parent "$1" || true); do
        family "$child"
    done
}

# A zombie is gone: in a container nobody may ever collect it.
alive() {
    local pid
    for pid in "$@"; do
        ! grep -qs '^State:\s[^ZX]' "/proc/$pid/status" || say "$pid"
    done
}

pid=$(supervisor_pid)
mapfile -t pids < <(family "$pid")
progress "stopping, the services first, Postgres last"
kill -TERM "$pid"
while [[ -n $(alive "${pids[@]}") ]]; do
    ((SECONDS < 240)) ||
        fail 1 "still there after 240 s: process $(alive "${pids[@]}" | tr '\n' ' ')" "see $STATE/logs, then: kill -KILL <process>"
    sleep 0.2
done
rm -rf "$(dirname "$(supervisor_socket)")"
progress "all stopped"
