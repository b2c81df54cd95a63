#!/usr/bin/env bash
# make pause: stops the feed, then waits until what it brought has gone all the way.
source "$(dirname "$0")/lib/base.sh"
source "$ROOT/scripts/lib/run_state.sh"

mode=$(remembered mode)
[[ -n $mode ]] || fail 1 "nothing of this checkout runs" "start it: make run"
lock_state
"$ROOT/scripts/$mode/pause.sh"
say "paused: aggregator and connectors have caught up; make run goes on"
