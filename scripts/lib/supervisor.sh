# shellcheck shell=bash
# Supervisor: keeps the programs running, restarts what dies, rotates logs. One for each state folder.

# Unix socket paths end at 107 bytes, checkouts can lie deeper: the socket gets a folder of its own.
supervisor_socket() { say "/tmp/kstream-agg-$(state_id)/supervisor.sock"; }

supervisor_pid() {
    local pid
    pid=$(remembered supervisord.pid)
    [[ -n $pid && -r /proc/$pid/cmdline ]] && tr '\0' '\n' <"/proc/$pid/cmdline" | grep -qxF "$STATE/etc/supervisord.conf" && say "$pid"
}

ctl() { "$VENV/bin/python" -m supervisor.supervisorctl -c "$STATE/etc/supervisord.conf" "$@" 9>&-; }

# start_supervisor: with whatever programs are written into etc/programs; those of a running one are brought up to date
start_supervisor() {
    local socket
    socket=$(supervisor_socket)
    mkdir -p -m 700 "${socket%/*}"
    [[ -O ${socket%/*} ]] || fail 1 "${socket%/*} belongs to somebody else" "remove $STATE/id to get another name"
    local SOCKET=$socket USER_LINE=""
    ! is_root || USER_LINE="user = root"
    render "$ROOT/servers/supervisord.conf.in" "$STATE/etc/supervisord.conf"
    write_if_changed "$STATE/etc/launch" "export KSTREAM_STATE=$(printf %q "$STATE") KSTREAM_CACHE=$(printf %q "$CACHE")
exec bash $(printf %q "$ROOT/scripts/native/program.sh") \"\$@\""
    if [[ -n $(supervisor_pid || true) ]]; then
        ctl update >>"$STATE/logs/supervisorctl.log" 2>&1
    else
        "$VENV/bin/python" -m supervisor.supervisord -c "$STATE/etc/supervisord.conf" 9>&- ||
            fail 1 "supervisor did not start" "log: $STATE/logs/supervisord.log"
    fi
}

# declare_program NAME: what supervisor is told about it. The revision stands for everything that the program is made of (its
# etc files, its start script, the variables given): where it is another one, supervisor restarts the program, else it leaves it alone.
declare_program() {
    local NAME=$1 ORDER=${STOP_ORDER[$1]} REVISION SIGNAL=TERM
    [[ $NAME != postgres ]] || SIGNAL=INT # "fast": end the sessions, then a checkpoint
    REVISION=$(cat "$STATE/ports" "$STATE/etc/native.env" "$STATE/etc/$NAME".* "$ROOT/scripts/native/programs/$NAME.sh" "$ROOT/scripts/native/program.sh" 2>/dev/null | sha256sum | cut -c1-16)
    render "$ROOT/servers/program.conf.in" "$STATE/etc/programs/$NAME.conf"
}

# running PROGRAM: does our supervisor run it?
running() {
    [[ -n $(supervisor_pid || true) ]] && ctl pid "$1" 2>/dev/null | grep -qE '^[1-9]'
}

# require_free_for_new PROGRAM...: the ports of those that do not run yet
require_free_for_new() {
    local program new=()
    for program in "$@"; do
        running "$program" || new+=("$program")
    done
    require_free "${new[@]}"
}

# start_programs PROGRAM...: those that do not run
start_programs() {
    start_supervisor
    ctl start "$@" >>"$STATE/logs/supervisorctl.log" 2>&1 || true
}
