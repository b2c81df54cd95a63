# shellcheck shell=bash
# What a checkout remembers between commands, in its state folder: how it was started, its feed, its id.

# One command at a time may change what runs. The lock goes with the process that holds descriptor 9; whatever outlives
# the command (the supervisor) is started with `9>&-`.
lock_state() {
    mkdir -p "$STATE" 2>/dev/null ||
        fail 1 "$STATE cannot be made" "the state of the servers is kept there; KSTREAM_STATE=<folder> moves it"
    exec 9>"$STATE/lock"
    flock --nonblock 9 && return
    say "waiting for another make command that works on $STATE"
    flock --wait 600 9 || fail "$EXIT_UNAVAILABLE" "another command has held $STATE/lock for 10 minutes" "see: fuser -v $STATE/lock"
}

# A name for this state folder outside of it (sockets, Postgres' data under root). Random, so that a new checkout at an
# old path does not find the old one's data.
state_id() {
    [[ -s $STATE/id ]] || od -An -N6 -tx1 /dev/urandom | tr -d ' \n' >"$STATE/id"
    cat "$STATE/id"
}

# remembered THING: prints what `remember` kept, or nothing
remembered() { [[ ! -s $STATE/$1 ]] || cat "$STATE/$1"; }

remember() { printf '%s\n' "$2" >"$STATE/$1"; }

# decide_mode: prints docker or native. What this checkout has started before decides; then SERVERS; then whether an engine answers.
decide_mode() {
    local asked=${SERVERS:-} kept
    kept=$(remembered mode)
    [[ $asked =~ ^(docker|native|)$ ]] || fail "$EXIT_CONFIG" "SERVERS is '$asked'" "it takes docker or native"
    if [[ -n $kept && -n $asked && $kept != "$asked" ]]; then
        fail "$EXIT_CONFIG" "SERVERS=$asked, but this checkout's servers and data are $kept" \
            "go on without SERVERS, or delete these first: make clean"
    fi
    if [[ -n ${kept:-$asked} ]]; then
        say "${kept:-$asked}"
    elif docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1; then
        say docker
    else
        say native
    fi
}

# The password that Postgres, Connect and jdbc-sink share; natively and in compose the same file.
ensure_postgres_password() {
    local file=$ROOT/secrets/postgres_password
    [[ ! -d $file ]] || rmdir "$file" 2>/dev/null ||
        fail "$EXIT_CONFIG" "$file is a folder" "remove it: the password file is made there"
    [[ ! -s $file ]] || return 0
    (umask 077 && mkdir -p "$ROOT/secrets")
    (umask 177 && od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$file")
}
