#!/usr/bin/env bash
# make clean: stops whatever this checkout started and throws its data away.
source "$(dirname "$0")/lib/base.sh"
source "$ROOT/scripts/lib/state.sh"

"$ROOT/scripts/down.sh"
[[ -d $STATE ]] || exit 0
lock_state
mode=$(remembered mode)
[[ -z $mode ]] || "$ROOT/scripts/$mode/clean.sh"
rm -rf "$STATE"
say "the data of $STATE is gone"
