# shellcheck shell=bash
# Postgres refuses to run as root: there it runs as its own user, with its data where that user can go.
# The first start makes the role and the database `kstream`, before anybody can connect.
# shellcheck source=/dev/null
source "$STATE/etc/postgres.env"
bin=$(postgres_bin)
as_postgres=()
if is_root; then
    owner=(--reuid postgres --regid postgres --init-groups)
    as_postgres=(setpriv "${owner[@]}" --pdeathsig INT --)
fi
cd "$POSTGRES_DATA" || exit

if [[ ! -e $POSTGRES_DATA/data/PG_VERSION ]]; then
    rm -rf "$POSTGRES_DATA/new"
    "${as_postgres[@]}" "$bin/initdb" --pgdata "$POSTGRES_DATA/new" --username kstream --encoding UTF8 --locale C.UTF-8 \
        --auth reject --no-instructions
    "${as_postgres[@]}" "$bin/postgres" --single -D "$POSTGRES_DATA/new" -c log_statement=none postgres <<<"CREATE DATABASE kstream;"
    mv "$POSTGRES_DATA/new" "$POSTGRES_DATA/data"
fi

# The password is the file's, also where the file was created again over kept data.
fingerprint=$(sha256sum <"$ROOT/secrets/postgres_password")
if [[ $(remembered postgres.password) != "$fingerprint" ]]; then
    "${as_postgres[@]}" "$bin/postgres" --single -D "$POSTGRES_DATA/data" postgres \
        <<<"ALTER ROLE kstream PASSWORD '$(<"$ROOT/secrets/postgres_password")';" >/dev/null
    remember postgres.password "$fingerprint"
fi

say "host all all 127.0.0.1/32 scram-sha-256" >"$POSTGRES_DATA/pg_hba.conf"
chmod 644 "$POSTGRES_DATA/pg_hba.conf"
run "${as_postgres[@]}" "$bin/postgres" -D "$POSTGRES_DATA/data" -c hba_file="$POSTGRES_DATA/pg_hba.conf" -c listen_addresses=127.0.0.1 -c port="$POSTGRES_PORT" \
    -c unix_socket_directories= -c timezone=UTC -c log_timezone=UTC
