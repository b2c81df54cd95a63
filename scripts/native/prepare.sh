#!/usr/bin/env bash
# prepare.sh [FEED]: the packages that the servers need are on the machine afterwards, and the ports of the servers (with a feed: of
# the services too) are free; nothing is started.
source "$(dirname "$0")/../lib/base.sh"
source "$ROOT/scripts/lib/native.sh"

[[ $(uname -s) == Linux ]] ||
    fail "$EXIT_UNAVAILABLE" "without Docker the servers run on Linux only, this is $(uname -s)" "start Docker, then: make run SERVERS=docker"

load_ports
mapfile -t programs < <(server_programs && { [[ -z ${1:-} ]] || service_programs "$1"; })
require_free_for "${programs[@]}"
mkdir -p "$CACHE" 2>/dev/null || fail 1 "$CACHE cannot be made" "the servers' files are kept there; KSTREAM_CACHE=<folder> moves it"
mkdir -p "$STATE"/{etc/programs,etc/prometheus/targets,logs,started,tmp}
require_programs "the servers" curl=curl ca-certificates=ca-certificates flock=util-linux setpriv=util-linux pgrep=procps postgres=postgresql python3-venv=python3-venv mvn=maven
want_programs prometheus=prometheus kcat=kcat
