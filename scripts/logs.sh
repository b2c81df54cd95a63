#!/usr/bin/env bash
# make logs: follows them.
source "$(dirname "$0")/lib/base.sh"
source "$ROOT/scripts/lib/run_state.sh"

mode=$(remembered mode)
[[ -n $mode ]] || fail 1 "nothing of this checkout has run" "start it: make run"
exec "$ROOT/scripts/$mode/logs.sh"
