#!/usr/bin/env bash
# Compose follows all containers.
source "$(dirname "$0")/../lib/base.sh"
source "$ROOT/scripts/lib/docker.sh"

recall_ports
compose logs --follow --tail 10
