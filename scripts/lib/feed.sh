# shellcheck shell=bash
# Where the trades come from: the exchange itself or the simulator. Remembered with the data, for the two do not mix.

EXCHANGE=https://www.deribit.com

# decide_feed: prints live or sim
decide_feed() {
    local asked=${FEED:-} kept
    kept=$(remembered feed)
    [[ $asked =~ ^(live|sim|)$ ]] || fail "$EXIT_CONFIG" "FEED is '$asked'" "it takes live or sim"
    if [[ -n $kept && -n $asked && $kept != "$asked" ]]; then
        fail "$EXIT_CONFIG" "FEED=$asked, but the data of this checkout came from FEED=$kept, and the two do not mix" \
            "go on without FEED, or delete the data first: make clean"
    fi
    if [[ -n ${kept:-$asked} ]]; then
        say "${kept:-$asked}"
    elif curl --silent --fail --max-time 4 --output /dev/null "$EXCHANGE/api/v2/public/get_time"; then
        say live
    else
        warn "$EXCHANGE does not answer: the trades come from the SIMULATOR (FEED=live forces the exchange)"
        say sim
    fi
}

# asked_market: what the environment says of the simulator's market, a setting a line
asked_market() { env | sed -n '/^KSTREAM__MARKET__/p' | sort; }

# settle_market: another market is another exchange. What the data's was asked for with is asked for again; something else does not go
# with them.
settle_market() {
    local asked kept setting
    asked=$(asked_market)
    kept=$(remembered market)
    [[ -n $(remembered feed) ]] || return 0
    if [[ -n $asked && $asked != "$kept" ]]; then
        fail "$EXIT_CONFIG" "the simulator is asked for ${asked//$'\n'/ }, but the data of this checkout came from ${kept:-its defaults}, and two markets do not mix" \
            "go on without these settings, or delete the data first: make clean"
    fi
    while IFS= read -r setting; do
        [[ -z $setting ]] || export "${setting?}"
    done <<<"$kept"
}
