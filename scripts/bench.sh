#!/usr/bin/env bash
# make bench: the benchmarks beside the code, then those over real servers; ratios within one run, and what they are to be.
BED=bench BED_PORT_OFFSET=${KSTREAM_BENCH_PORT_OFFSET:-14000}
# shellcheck source=scripts/lib/test_env.sh
source "$(dirname "$0")/lib/test_env.sh"

# beside NAME: those of one crate that need no server
beside() { cargo bench --locked --package "$1" --benches; }

# e2e_bench NAME [WHICH...]: one of those over the real servers, by the released binaries
e2e_bench() { cargo bench --locked --workspace --features e2e/real-servers --bench "$1" -- "${@:2}"; }

make_test_env
step "packages" scripts/native/prepare.sh sim
step "release build, downloads" scripts/native/build.sh
step "simulator" beside deribit-sim
step "frames" beside raw-producer
step "windows" beside agg-producer
step "servers" scripts/servers.sh 7>&-
step "rows" e2e_bench sink
step "raw producer" e2e_bench ingest
step "averages" e2e_bench averages
printf '%s\n' "${STEPS[@]}"
