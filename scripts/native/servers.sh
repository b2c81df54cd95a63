#!/usr/bin/env bash
# Only the servers.
source "$(dirname "$0")/../lib/base.sh"
source "$ROOT/scripts/lib/programs.sh"

mapfile -t programs < <(server_programs)
exec "$ROOT/scripts/native/up.sh" "${programs[@]}"
