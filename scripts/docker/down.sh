#!/usr/bin/env bash
# Containers go, volumes stay.
source "$(dirname "$0")/../lib/base.sh"
source "$ROOT/scripts/lib/docker.sh"

recall_ports
compose down --remove-orphans
