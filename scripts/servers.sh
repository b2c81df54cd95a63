#!/usr/bin/env bash
# make servers: only the servers, until they are healthy.
source "$(dirname "$0")/lib/base.sh"
source "$ROOT/scripts/lib/run_state.sh"

lock_state
mode=$(decide_mode)
"$ROOT/scripts/$mode/prepare.sh"
remember mode "$mode"
"$ROOT/scripts/$mode/servers.sh"
