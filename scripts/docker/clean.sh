#!/usr/bin/env bash
# Volumes and built images go too, the consoles' as well, whatever CONSOLES says now. (An image is made again in seconds: what it was
# built from stays in the builder's cache.)
source "$(dirname "$0")/../lib/base.sh"
source "$ROOT/scripts/lib/docker.sh"

recall_ports
CONSOLES=on compose down --remove-orphans --volumes --rmi local
