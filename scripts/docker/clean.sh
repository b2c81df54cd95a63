#!/usr/bin/env bash
# The volumes go too.
source "$(dirname "$0")/../lib/base.sh"
source "$ROOT/scripts/lib/docker.sh"

recall_ports
compose down --remove-orphans --volumes
