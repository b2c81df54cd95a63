#!/usr/bin/env bash
# make chaos-ingest | chaos-averages | chaos-sink FOR=10m: the same fault test that `make test` runs shortly, as long as asked.
BED=chaos BED_PORT_OFFSET=${KSTREAM_CHAOS_PORT_OFFSET:-12000}
# shellcheck source=scripts/lib/test_env.sh
source "$(dirname "$0")/lib/test_env.sh"

what=$1
export FOR=${FOR:-10m}
make_test_env
step "packages" scripts/native/prepare.sh
step "release build, downloads" scripts/native/build.sh
step "servers" scripts/servers.sh 7>&-
step "chaos-$what for $FOR" e2e "exclusive::chaos_$what::whatever_breaks" --nocapture
printf '%s\n' "${STEPS[@]}"
