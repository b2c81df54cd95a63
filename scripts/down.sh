#!/usr/bin/env bash
# make down: stops whatever this checkout started, keeps the data.
source "$(dirname "$0")/lib/base.sh"
source "$ROOT/scripts/lib/run_state.sh"

mode=$(remembered mode)
[[ -n $mode ]] || { say "nothing of this checkout runs"; exit; }
lock_state
"$ROOT/scripts/$mode/down.sh"
