#!/usr/bin/env bash
# What lies outside of the state folder: Postgres' data, where root started it.
source "$(dirname "$0")/../lib/base.sh"
source "$ROOT/scripts/lib/run_state.sh"

[[ ! -s $STATE/id ]] || rm -rf "/var/lib/kstream-agg/$(state_id)"
[[ ! -d /var/lib/kstream-agg ]] || rmdir --ignore-fail-on-non-empty /var/lib/kstream-agg
