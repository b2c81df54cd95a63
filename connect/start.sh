#!/usr/bin/env bash
# Starts a Connect worker in its container, with the native servers' configuration and the addresses of this network.
# CONNECT_BOOTSTRAP_SERVERS is the address of Kafka. Writes only to /tmp.
set -euo pipefail

home=/opt/kstream-agg
properties=/tmp/connect.properties
sed -e "s|^bootstrap\.servers=.*|bootstrap.servers=${CONNECT_BOOTSTRAP_SERVERS:?must be the address of Kafka}|" \
    -e "s|^listeners=.*|listeners=http://0.0.0.0:8083|" \
    -e "s|^rest\.advertised\.host\.name=.*|rest.advertised.host.name=$HOSTNAME|" \
    -e "s|^rest\.advertised\.port=.*|rest.advertised.port=8083|" \
    -e "s|^plugin\.path=.*|plugin.path=$home/plugins|" \
    "$home/connect.properties.in" >"$properties"
if left=$(grep -n '@[A-Z_]*@' "$properties"); then
    echo "start: connect.properties.in has a placeholder without a value, line $left" >&2
    exit 78
fi

# Not in the image's environment: any other command in the container would then start a second agent on the same port.
export KAFKA_OPTS="-javaagent:$home/jmx-agent.jar=0.0.0.0:9404:$home/connect-jmx.yml -Duser.timezone=UTC ${KAFKA_OPTS:-}"
export KAFKA_HEAP_OPTS=${KAFKA_HEAP_OPTS:--Xms128m -Xmx512m}
export KAFKA_JVM_PERFORMANCE_OPTS=${KAFKA_JVM_PERFORMANCE_OPTS:--XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError}
export KAFKA_LOG4J_OPTS=-Dlog4j2.configurationFile=$home/log4j2.properties
export LOG_DIR=/tmp
exec /opt/kafka/bin/connect-distributed.sh "$properties"
