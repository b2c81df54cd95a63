#!/usr/bin/env bash
# The servers' files are in the cache afterwards, whole and as they should be, and where they are stands in native.env.
source "$(dirname "$0")/../lib/base.sh"
source "$ROOT/scripts/lib/native.sh"

venv supervisor
SUPERVISOR=$VENV
fetch_parts
find_java

write_if_changed "$STATE/etc/native.env" "$(
    printf '%s=%q\n' JAVA "$JAVA" JAVA_VERSION "$JAVA_VERSION" SUPERVISOR "$SUPERVISOR" \
        KAFKA_LIBS "$(part_folder kafka)" REGISTRY_HOME "$(part_folder registry)" ZIPKIN_HOME "$(part_folder zipkin)" \
        JMX_AGENT "$(part_folder jmx-agent)" \
        PLUGIN_PATH "$(dirname "$(part_folder avro-converter)"),$(dirname "$(part_folder jdbc-connector)")"
)"
