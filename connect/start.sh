#!/usr/bin/env bash
# Starts a Connect worker in its container. Its configuration is that of the servers without Docker, at this network's addresses;
# CONNECT_BOOTSTRAP_SERVERS says where Kafka is. Writes nowhere but to /tmp.
set -euo pipefail

home=/opt/kstream-agg
properties=/tmp/connect.properties
sed -e "s|^bootstrap\.servers=.*|bootstrap.servers=${CONNECT_BOOTSTRAP_SERVERS:?where is Kafka?}|" \
    -e "s|^listeners=.*|listeners=http://0.0.0.0:8083|" \
    -e "s|^rest\.advertised\.host\.name=.*|rest.advertised.host.name=$HOSTNAME|" \
    -e "s|^rest\.advertised\.port=.*|rest.advertised.port=8083|" \
    -e "s|^plugin\.path=.*|plugin.path=$home/plugins|" \
    "$home/connect.properties.in" >"$properties"
if left=$(grep -n '@[A-Z_]*@' "$properties"); then
    echo "start: nothing fills in connect.properties.in, line $left" >&2
    exit 78
fi

# Here and not in the image's environment: a command that somebody runs beside the worker would start a second agent on its port.
export KAFKA_OPTS="-javaagent:$home/jmx-agent.jar=0.0.0.0:9404:$home/connect-jmx.yml -Duser.timezone=UTC ${KAFKA_OPTS:-}"
export KAFKA_HEAP_OPTS=${KAFKA_HEAP_OPTS:--Xms128m -Xmx512m}
export KAFKA_JVM_PERFORMANCE_OPTS=${KAFKA_JVM_PERFORMANCE_OPTS:--XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError}
export KAFKA_LOG4J_OPTS=-Dlog4j2.configurationFile=$home/log4j2.properties
export LOG_DIR=/tmp
exec /opt/kafka/bin/connect-distributed.sh "$properties"
