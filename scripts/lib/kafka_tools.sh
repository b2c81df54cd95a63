# shellcheck shell=bash
# Kafka's own command-line tools. Short-lived JVMs: no compiler beyond the first tier, the smallest collector.

# kafka_tool CLASS ARGUMENT...
kafka_tool() {
    local class=$1
    shift
    # shellcheck source=/dev/null
    source "$STATE/etc/native.env"
    "$JAVA" -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:-UsePerfData -Xmx128m \
        "-Dlog4j2.configurationFile=$ROOT/servers/tools.log4j2.properties" -cp "$KAFKA_LIBS/*" "$class" \
        --bootstrap-server "127.0.0.1:$KAFKA_PORT" "$@" 9>&-
}
