# shellcheck shell=bash
# One of our own services; it waits for what it needs by itself too, but not for ever.
# shellcheck source=/dev/null
source "$STATE/etc/$NAME.env"
case $NAME in
deribit-sim) ;;
jdbc-sink) after kafka registry connect postgres ;;
agg-producer) after kafka registry ;;
raw-producer)
    after kafka registry
    [[ ${KSTREAM__DERIBIT__URL:-} != ws://127.0.0.1:"$DERIBIT_SIM_PORT"/* ]] || after deribit-sim
    ;;
esac
# Files that the configuration names are looked for from the checkout.
cd "$ROOT" || exit
run "$BINARY"
