#!/usr/bin/env bash
# make status: a line for each part; exit 1 if one is unhealthy.
source "$(dirname "$0")/lib/base.sh"
source "$ROOT/scripts/lib/run_state.sh"

mode=$(remembered mode)
[[ -n $mode ]] || fail 1 "nothing of this checkout runs" "start it: make run"
exec "$ROOT/scripts/$mode/status.sh"
