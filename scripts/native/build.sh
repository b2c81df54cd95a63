#!/usr/bin/env bash
# Our binaries; a wrong configuration is found before anything starts. The servers are fetched meanwhile: the one waits for the
# network, the other for the processors.
source "$(dirname "$0")/../lib/base.sh"
source "$ROOT/scripts/lib/run_state.sh"
source "$ROOT/scripts/lib/packages.sh"
source "$ROOT/scripts/lib/service_env.sh"

# A fetch that fails ends the build, which would only delay what it has to say.
fetch() {
    local code=0
    "$ROOT/scripts/native/fetch.sh" 2>"$COMPLAINTS" || code=$?
    ((code == 0)) || pkill -P $$ -x cargo || true
    return "$code"
}

require_cargo
cd "$ROOT"
mkdir -p "$STATE/logs"
COMPLAINTS=$STATE/logs/fetch.err
fetch 9>&- &
fetching=$! built=0 fetched=0
mapfile -t options < <(build_options)
cargo build --workspace --locked "${options[@]}" 9>&- || built=$?
wait "$fetching" || fetched=$?
cat "$COMPLAINTS" >&2
((fetched == 0)) || exit "$fetched"
((built == 0)) || fail 1 "cargo build failed" "the messages above say why"
for service in deribit-sim agg-producer jdbc-sink raw-producer; do
    "$(binary "$service")" --check-config || exit
done
