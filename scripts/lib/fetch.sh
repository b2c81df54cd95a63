# shellcheck shell=bash
# The servers' files: fetched by Maven into the cache, each held to the SHA-256 sum that the repository gives.

PARTS=(kafka avro-converter jdbc-connector registry zipkin jmx-agent)

# part_folder PART: where its files are; another version is another folder. The part has it to itself, so that the folder above can
# stand in Connect's plugin.path, where every folder and every jar below is a plugin of its own.
part_folder() {
    say "$CACHE/servers/$1-$(find "$ROOT/servers/pom.xml" "$ROOT/servers/$1" -type f -print0 | sort -z | xargs -0 sha256sum | sed 's|  .*/|  |' | sha256sum | cut -c1-12)/$1"
}

# fetch_parts: after it every part is there, whole and as it should be
fetch_parts() {
    local part missing=()
    exec 8>"$CACHE/lock"
    flock 8
    for part in "${PARTS[@]}"; do
        part_is_whole "$part" || missing+=("$part")
    done
    ((${#missing[@]} == 0)) || fetch_missing "${missing[@]}"
    exec 8>&-
}

# A part is whole if no file of it changed since its sums were last right; if one did, the sums decide.
part_is_whole() {
    local folder
    folder=$(part_folder "$1")
    [[ -e $folder/complete ]] || return 1
    [[ -n $(find "$folder" -type f -cnewer "$folder/complete" -print -quit) ]] || return 0
    if (cd "$folder" && sha256sum --quiet --check complete >/dev/null 2>&1); then
        touch "$folder/complete"
    else
        say "$1: a file in $folder is damaged, fetching it again"
        rm -rf "$folder"
        return 1
    fi
}

fetch_missing() {
    local staging=$CACHE/staging bad try
    require_room
    progress "fetching ${*} with Maven (all of them: 430 MB)"
    rm -rf "$staging"
    for try in 1 2; do
        run_maven "$staging" "$@"
        bad=$(bad_files "$staging" "$@")
        [[ -n $bad ]] || break
        ((try == 1)) || fail "$EXIT_UNAVAILABLE" "fetched twice, and the SHA-256 sum is wrong each time: $(head -n 3 <<<"$bad" | tr '\n' ' ')" \
            "expected: $ROOT/servers/<part>/SHA256SUMS; the files were deleted" \
            "a proxy or mirror that changes files? See ~/.m2/settings.xml, then run the command again"
        say "wrong SHA-256 sum, deleted and fetched again: ${bad//$'\n'/ }"
        forget_files "$staging" "$bad"
    done
    for part in "$@"; do
        install_part "$staging/$part" "$part"
    done
    rm -rf "$staging" "$CACHE/maven"
}

require_room() {
    local free needed=1600
    free=$(df --output=avail -m "$CACHE" | tail -n 1)
    ((free >= needed)) || fail 1 "$CACHE has room for ${free// /} MB, fetching the servers takes $needed MB for a moment (600 MB in the end)" \
        "make room there, or move it: KSTREAM_CACHE=<folder>"
}

# run_maven STAGING PART...: Maven's repository is one of our own, so that a damaged file in it can be deleted and none is left over
run_maven() {
    local staging=$1 log=$STATE/logs/fetch.log
    shift
    mkdir -p "$STATE/logs"
    mvn --batch-mode --threads 2 --file "$ROOT/servers/pom.xml" --projects "$(IFS=,; say "$*")" \
        "-Dmaven.repo.local=$CACHE/maven" "-Dfetch.to=$staging" generate-resources </dev/null >>"$log" 2>&1 8>&- 9>&- ||
        fail_fetch "$*" "$log"
}

# bad_files STAGING PART...: part/file of those that are missing or whose sum is wrong
bad_files() {
    local staging=$1 part
    shift
    for part in "$@"; do
        (cd "$staging/$part" && sha256sum --check --quiet "$ROOT/servers/$part/SHA256SUMS" 2>/dev/null) |
            sed -n "s|^\(.*\): FAILED.*|$part/\1|p" || true
    done
}

forget_files() {
    local file
    for file in $2; do
        rm -f "$1/$file"
        find "$CACHE/maven" -name "${file##*/}" -delete
    done
}

# install_part FROM PART: archives unpacked, sums of the result noted, then moved to its place in one step
install_part() {
    local archive folder
    folder=$(part_folder "$2")
    for archive in "$1"/*.tar.gz; do
        tar -xzf "$archive" -C "$1" --no-same-owner || fail_fetch "$2 (unpacking)" /dev/null
        rm "$archive"
    done
    [[ ! -d $ROOT/servers/$2/META-INF ]] || add_manifest "$1" "$ROOT/servers/$2"
    (cd "$1" && find . -type f -print0 | xargs -0 sha256sum) >"$1.sums"
    mv "$1.sums" "$1/complete"
    mkdir -p "${folder%/*}"
    rm -rf "$folder"
    mv "$1" "$folder"
}

# add_manifest FOLDER SOURCE: a jar that tells Connect which plugins are in the folder, where the plugin's author forgot to: Connect
# would have to look into every class of every jar at each start otherwise (plugin.discovery=service_load does not).
add_manifest() {
    (cd "$2" && "$(python_with_venv)" -m zipfile -c "$1/plugin-manifest.jar" META-INF)
}

# fail_fetch WHAT LOG: says why, as far as the log tells
fail_fetch() {
    local tail
    tail=$(tail -n 60 "$2" 2>/dev/null)
    if grep -q 'No space left on device' <<<"$tail"; then
        fail 1 "the disk is full: $1 could not be written below $CACHE ($(df -h --output=avail "$CACHE" | tail -n 1 | tr -d ' ') free)" \
            "make room, or move it: KSTREAM_CACHE=<folder>"
    elif grep -qE 'UnknownHost|Connection refused|Network is unreachable|No route to host|timed out|Temporary failure|NewConnectionError|Name or service not known|from versions: none' <<<"$tail"; then
        fail "$EXIT_UNAVAILABLE" "no network: $1 could not be fetched" \
            "needed are Maven Central and PyPI, or mirrors of them (~/.m2/settings.xml, pip config)" "log: $2"
    fi
    fail "$EXIT_UNAVAILABLE" "$1 could not be fetched: $(grep -E 'ERROR' <<<"$tail" | head -n 1)" "log: $2"
}
