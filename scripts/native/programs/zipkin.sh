# shellcheck shell=bash
# Zipkin keeps its traces in memory: those of the last 100,000 spans.
after registry
export MEM_MAX_SPANS=100000
run_java "$ZIPKIN_HOME" -Xms160m -Xmx160m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
    '-Darmeria.ports[0].ip=127.0.0.1' "-Darmeria.ports[0].port=$ZIPKIN_PORT" '-Darmeria.ports[0].protocols[0]=http' \
    -jar "$(echo "$ZIPKIN_HOME"/*.jar)"
