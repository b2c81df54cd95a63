#!/usr/bin/env bash
# make clean: stops whatever this checkout started and deletes its data.
source "$(dirname "$0")/lib/base.sh"
source "$ROOT/scripts/lib/run_state.sh"

"$ROOT/scripts/down.sh"
[[ -d $STATE ]] || exit 0
lock_state
mode=$(remembered mode)
[[ -z $mode ]] || "$ROOT/scripts/$mode/clean.sh"
rm -rf "$STATE"
say "the data of $STATE is gone"
