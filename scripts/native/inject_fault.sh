#!/usr/bin/env bash
# inject_fault.sh stop|start|kill PROGRAM: what the fault tests do to one of the programs that run; start waits until it is healthy, and
# what was killed is started again at once, as after any death.
source "$(dirname "$0")/../lib/base.sh"
source "$ROOT/scripts/lib/native.sh"

action=$1 program=$2
recall_ports
supervisor_runs || fail "$EXIT_UNAVAILABLE" "nothing of this checkout runs" "make servers"
case $action in
stop) ctl stop "$program" ;;
start)
    ctl start "$program"
    wait_healthy "${KSTREAM_DEADLINE:-180}" "$program"
    ;;
kill) ctl signal KILL "$program" ;;
*) fail "$EXIT_CONFIG" "inject_fault.sh: '$action' is no action" "known: stop, start, kill" ;;
esac
