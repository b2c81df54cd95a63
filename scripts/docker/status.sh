#!/usr/bin/env bash
# A line for each container. One that ended with 0 was asked to (a paused feed, a job that is done).
source "$(dirname "$0")/../lib/base.sh"
source "$ROOT/scripts/lib/docker.sh"

recall_ports
any=no verdict_of_all=0
while read -r service state health code ports; do
    any=yes
    verdict="UNHEALTHY"
    case $state/$health/$code in
    running/healthy/* | running/-/*) verdict=healthy ;;
    exited/*/0) verdict=ended ;;
    *) verdict_of_all=1 ;;
    esac
    printf '%-13s %-9s %-8s %-10s %s\n' "$service" "$verdict" "$state" "$health" "$ports"
done < <(compose ps --all --format '{{.Service}} {{.State}} {{or .Health "-"}} {{.ExitCode}} {{.Ports}}' | sort)
[[ $any == yes ]] || fail 1 "nothing of this checkout runs" "start it: make run"
say "lag, dead letters, and the proof that rows are there: docker compose exec jdbc-sink /usr/local/bin/jdbc-sink status (or verify) (docs/OPERATING.md)"
exit "$verdict_of_all"
