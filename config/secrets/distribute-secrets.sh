#!/usr/bin/env bash
# Each variable FOR_<NAME>="<uid> [pgpass]": the Postgres password goes to the folder /for/<name>, for that user to read and nobody
# else; with pgpass also as a line of the format that libpq and pgAdmin take.
set -euo pipefail
umask 077

# put FILE UID: standard input becomes that file, in one step
put() {
    cat >"$1.new"
    chmod 0400 "$1.new"
    chown "$2:$2" "$1.new"
    mv -f "$1.new" "$1"
}

password=$(</run/secrets/postgres_password)
[[ -n $password ]] || {
    echo "secrets/postgres_password is empty: remove it, and 'make run' makes a new one" >&2
    exit 78
}
for variable in "${!FOR_@}"; do
    name=${variable#FOR_}
    name=${name,,}
    folder=/for/${name//_/-}
    read -r uid extra <<<"${!variable}"
    # Without a newline at its end: Connect would take it for a part of the password.
    printf '%s' "$password" | put "$folder/postgres_password" "$uid"
    [[ $extra != pgpass ]] || printf 'postgres:5432:*:kstream:%s\n' "$password" | put "$folder/pgpass" "$uid"
done
