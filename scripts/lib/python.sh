# shellcheck shell=bash
# Python packages for the servers: virtual environments in the cache, each from a file of pinned hashes in servers/python.

# venv NAME: sets VENV to the folder of the environment that servers/python/NAME.txt describes, made if need be
venv() {
    local requirements=$ROOT/servers/python/$1.txt python log
    python=$(python_with_venv)
    VENV=$CACHE/python/$1-$({ "$python" -VV && cat "$requirements"; } | sha256sum | cut -c1-12)
    [[ ! -e $VENV/complete ]] || return 0
    log=$STATE/logs/fetch.log
    progress "fetching $1 (Python packages)"
    rm -rf "$VENV"
    mkdir -p "${VENV%/*}" "${log%/*}"
    {
        "$python" -m venv "$VENV" &&
            "$VENV/bin/python" -m pip install --no-deps --require-hashes --no-input --disable-pip-version-check -r "$requirements" &&
            touch "$VENV/complete"
    } >>"$log" 2>&1 || {
        rm -rf "$VENV"
        fail_fetch "$1 (Python packages, $requirements)" "$log"
    }
}
