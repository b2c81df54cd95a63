# shellcheck shell=bash
# Supervisor: keeps the programs running, restarts what dies, rotates logs. One for each state folder.

# Unix socket paths end at 107 bytes, checkouts can lie deeper: the socket gets a folder of its own.
supervisor_socket() { say "/tmp/kstream-agg-$(state_id)/supervisor.sock"; }

# Prints the process id; fails if it does not run. The command line is compared, for the id may be another's by now.
supervisor_pid() {
    local pid
    pid=$(remembered supervisord.pid)
    [[ -n $pid && -r /proc/$pid/cmdline ]] && tr '\0' '\n' <"/proc/$pid/cmdline" | grep -qxF "$STATE/etc/supervisord.conf" && say "$pid"
}

supervisor_runs() { supervisor_pid >/dev/null; }

ctl() {
    # shellcheck source=/dev/null
    source "$STATE/etc/native.env"
    "$SUPERVISOR/bin/python" -m supervisor.supervisorctl -c "$STATE/etc/supervisord.conf" "$@" 9>&-
}

# program_states: a line a program, "name STATE ..."
program_states() { ! supervisor_runs || ctl status || true; }

# declare_program NAME: what supervisor is told about it. The revision stands for everything that the program is made of (its
# etc files, its start script, paths and ports): where it is another one, supervisor restarts the program, else it leaves it alone.
declare_program() {
    local name=$1 revision signal=TERM
    [[ $name != postgres ]] || signal=INT # "fast": end the sessions, then a checkpoint
    revision=$(
        cat "$ROOT/scripts/native/run_program.sh" "$ROOT/scripts/native/$(program_script "$name")" \
            "$STATE/ports" "$STATE/etc/native.env" "$STATE/etc/$name".* | sha256sum | cut -c1-16
    )
    render "$ROOT/servers/program.conf.in" "$STATE/etc/programs/$name.conf" \
        "NAME=$name" "ORDER=${STOP_ORDER[$name]}" "SIGNAL=$signal" "REVISION=$revision"
}

# start_programs PROGRAM...: those that do not run, or not in their newest revision
start_programs() {
    local user=""
    ! is_root || user="user = root"
    make_private_folder "$(dirname "$(supervisor_socket)")"
    render "$ROOT/servers/supervisord.conf.in" "$STATE/etc/supervisord.conf" "SOCKET=$(supervisor_socket)" "USER=$user"
    write_if_changed "$STATE/etc/launch" "$(launcher)"
    if supervisor_runs; then
        stop_changed
        ctl update >>"$STATE/logs/supervisorctl.log" 2>&1
    else
        "$SUPERVISOR/bin/python" -m supervisor.supervisord -c "$STATE/etc/supervisord.conf" 9>&- ||
            fail 1 "supervisor did not start" "log: $STATE/logs/supervisord.log"
    fi
    ctl start "$@" >>"$STATE/logs/supervisorctl.log" 2>&1 || true
}

# `update` would stop those that changed in any order, and the registry cannot stop without Kafka.
stop_changed() {
    local program
    for program in $(ctl reread | sed -n 's/: changed$//p'); do
        say "${STOP_ORDER[$program]} $program"
    done | sort -rn | while read -r _order program; do
        progress "$program has changed: stopping it"
        ctl stop "$program" >>"$STATE/logs/supervisorctl.log" 2>&1 </dev/null
    done
}

# What supervisor runs for every program; a file, so that no character of a path can be taken for its configuration's syntax.
launcher() {
    printf 'export KSTREAM_STATE=%q KSTREAM_CACHE=%q\n' "$STATE" "$CACHE"
    # shellcheck disable=SC2016 # for the launcher to expand
    printf 'exec bash %q "$@"\n' "$ROOT/scripts/native/run_program.sh"
}

make_private_folder() {
    mkdir -p "$1"
    [[ -O $1 ]] || fail 1 "$1 belongs to somebody else" "remove $STATE/id: another name is taken then"
    chmod 700 "$1"
}

# require_free_for PROGRAM...: the ports on which they will listen and do not yet
require_free_for() {
    local program name running names=()
    running=$(program_states | awk '$2 == "RUNNING" { print $1 }')
    for program in "$@"; do
        for name in $(ports_of "$program"); do
            grep -qxF "$program" <<<"$running" && grep -qxF "$name=${!name}" "$STATE/ports" || names+=("$name")
        done
    done
    require_free "${names[@]}"
}
