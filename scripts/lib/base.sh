# shellcheck shell=bash
# What every script starts with: strict mode, where things are, how to speak and how to fail.
set -euo pipefail
shopt -s inherit_errexit nullglob
export LC_ALL=C

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
# Everything that one set of servers writes: a second set is another folder and another port offset.
STATE=${KSTREAM_STATE:-.run}
[[ $STATE == /* ]] || STATE=$ROOT/$STATE
CACHE=${KSTREAM_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/kstream-agg}
export KSTREAM_STATE=$STATE KSTREAM_CACHE=$CACHE

# Exit codes: those of sysexits.h that our services use too; 1 is for the rest.
EXIT_UNAVAILABLE=69 # something that we need did not come: a program, a server, the network
EXIT_CONFIG=78      # something that was asked for cannot be: a setting, a taken port
export EXIT_UNAVAILABLE EXIT_CONFIG
readonly ROOT STATE CACHE EXIT_UNAVAILABLE EXIT_CONFIG

# Times count from the first script of a command; those that it calls inherit it.
export KSTREAM_STARTED=${KSTREAM_STARTED:-${EPOCHREALTIME/[.,]/}}

# seconds_since MICROSECONDS: "12.3"
seconds_since() {
    local tenths=$(((${EPOCHREALTIME/[.,]/} - $1) / 100000))
    printf '%d.%d' $((tenths / 10)) $((tenths % 10))
}

say() { printf '%s\n' "$*"; }

# progress TEXT: a line with the time since the command began.
progress() { printf '%7s s  %s\n' "$(seconds_since "$KSTREAM_STARTED")" "$*"; }

warn() { printf '\n!! %s\n\n' "$*" >&2; }

# fail CODE LINE...: the thing and the value, then the way out, a line each.
fail() {
    local code=$1
    shift
    printf 'error: %s\n' "$1" >&2
    shift
    (($# == 0)) || printf '       %s\n' "$@" >&2
    exit "$code"
}

has() { command -v "$1" >/dev/null 2>&1; }

is_root() { ((EUID == 0)); }

# port_open PORT: does anybody listen on it, on loopback? Without a process being started for it.
port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# http_ok URL: 2xx within two seconds
http_ok() { curl --silent --fail --max-time 2 --output /dev/null --noproxy '*' "$1" 2>/dev/null; }
