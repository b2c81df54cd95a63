#!/usr/bin/env bash
# Our images, and the servers' by pulling.
source "$(dirname "$0")/../lib/base.sh"
source "$ROOT/scripts/lib/docker.sh"

recall_ports
compose build
