#!/usr/bin/env bash
# make run: builds, fetches and starts everything, waits until averages can be read, and leaves it running.
source "$(dirname "$0")/lib/base.sh"
source "$ROOT/scripts/lib/run_state.sh"
source "$ROOT/scripts/lib/feed.sh"
source "$ROOT/scripts/lib/packages.sh"

# part NAME COMMAND...: runs it and notes how long it took
TIMES=()
part() {
    local name=$1 began=${EPOCHREALTIME/[.,]/}
    shift
    "$@"
    TIMES+=("$(printf '%6s s  %s' "$(seconds_since "$began")" "$name")")
}

lock_state
mode=$(decide_mode)
require_programs "make run" curl=curl ca-certificates=ca-certificates
feed=$(decide_feed)
[[ $feed != sim ]] || settle_market
# As the last time, unless it is set again.
export CONSOLES=${CONSOLES:-$(remembered consoles)}
fresh=$([[ -n $(remembered feed) ]] || say yes)
part "packages" "$ROOT/scripts/$mode/prepare.sh" "$feed"
part "build, downloads" "$ROOT/scripts/$mode/build.sh"
remember mode "$mode"
remember feed "$feed"
remember market "$(asked_market)"
remember consoles "$CONSOLES"
part "servers and services" "$ROOT/scripts/$mode/services.sh" "$feed"
part "the first average" "$ROOT/scripts/wait_for_first_average.sh" "$mode" "$fresh"

say
say "where the time went"
printf '%s\n' "${TIMES[@]}"
printf '%6s s  in all\n' "$(seconds_since "$KSTREAM_STARTED")"
say
"$ROOT/scripts/endpoints.sh" "$mode" "$feed"
