#!/usr/bin/env bash
# services.sh FEED: servers and services together, so that each service starts the moment when what it needs is healthy.
source "$(dirname "$0")/../lib/base.sh"
source "$ROOT/scripts/lib/programs.sh"

mapfile -t programs < <(server_programs && service_programs "$1")
KSTREAM_FEED=$1 exec "$ROOT/scripts/native/up.sh" "${programs[@]}"
