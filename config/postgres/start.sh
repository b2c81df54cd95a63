#!/usr/bin/env bash
# Starts Postgres with the password that the file holds now: the image takes it only when it makes the database, but the file may be
# created again over kept data.
set -euo pipefail

if [[ -s $PGDATA/PG_VERSION ]]; then
    password=$(<"$POSTGRES_PASSWORD_FILE")
    postgres --single -D "$PGDATA" postgres <<<"ALTER ROLE \"$POSTGRES_USER\" PASSWORD '${password//\'/\'\'}';" >/dev/null
fi
exec docker-entrypoint.sh "$@"
