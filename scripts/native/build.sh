#!/usr/bin/env bash
# Our binaries, as they are released; a configuration that is wrong is found before anything starts.
source "$(dirname "$0")/../lib/base.sh"
source "$ROOT/scripts/lib/state.sh"
source "$ROOT/scripts/lib/packages.sh"
source "$ROOT/scripts/lib/service_env.sh"

require_cargo
cd "$ROOT"
cargo build --release --workspace --locked 9>&- ||
    fail 1 "cargo build failed" "the messages above say why"
for service in deribit-sim agg-producer jdbc-sink raw-producer; do
    "$(binary "$service")" --check-config || exit
done
