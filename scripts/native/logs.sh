#!/usr/bin/env bash
# Each program's log is a file; supervisor rotates them.
source "$(dirname "$0")/../lib/base.sh"

exec tail -n 10 -F "$STATE"/logs/*.log
