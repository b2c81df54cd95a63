#!/usr/bin/env bash
# What supervisor starts for each program: waits until what it needs is healthy, then becomes the program.
# Its working directory is the state folder.
source "$(dirname "$0")/../lib/base.sh"
source "$ROOT/scripts/lib/ports.sh"
source "$ROOT/scripts/lib/run_state.sh"
source "$ROOT/scripts/lib/packages.sh"
source "$ROOT/scripts/lib/programs.sh"

NAME=$1
recall_ports
# shellcheck source=/dev/null
source "$STATE/etc/native.env"

# after PROGRAM...: returns when all of them are healthy
after() {
    local needed
    for needed in "$@"; do
        until is_healthy "$needed"; do
            sleep 0.2
        done
    done
}

# run COMMAND...: becomes it
run() {
    printf -- '--- %(%FT%T%z)T %s starts\n' -1 "$NAME"
    exec "$@"
}

# run_java FOLDER OPTION...: as `run`; the classes that this program loads are kept in an archive between starts, which
# spares about half of the time that the JVMs take to come up
run_java() {
    local version=${1%/*}
    shift
    rm -rf "tmp/$NAME"
    mkdir -p "$CACHE/class-data" "tmp/$NAME"
    run "$JAVA" "-Djava.io.tmpdir=$STATE/tmp/$NAME" -XX:-UsePerfData -XX:+AutoCreateSharedArchive "-XX:SharedArchiveFile=$CACHE/class-data/$NAME-$JAVA_VERSION-${version##*-}.jsa" \
        -Xlog:cds=off -Xlog:cds+dynamic=off -XX:+ExitOnOutOfMemoryError "$@"
}

# A program that dies at once is started again, but not in a hurry.
pause_after_quick_death() {
    local last now
    printf -v now '%(%s)T' -1
    last=$(remembered "started/$NAME")
    remember "started/$NAME" "$now"
    ((now - ${last:-0} > 5)) || sleep 3
}

pause_after_quick_death
# shellcheck source=/dev/null
source "$ROOT/scripts/native/$(program_script "$NAME")"
