# shellcheck shell=bash
# Kafka Connect with the JDBC sink and the Avro converter; its metrics for Prometheus by a Java agent.
# Not before the registry: records that cannot be converted because it is unavailable would go to the dead-letter topic.
after kafka registry
run_java "$KAFKA_LIBS" -XX:+UnlockDiagnosticVMOptions -XX:+AllowArchivingWithJavaAgent -Xms128m -Xmx512m -XX:+UseSerialGC -Duser.timezone=UTC "-Dlog4j2.configurationFile=$STATE/etc/connect.log4j2.properties" \
    "-javaagent:$(echo "$JMX_AGENT"/*.jar)=127.0.0.1:$CONNECT_METRICS_PORT:$STATE/etc/connect.jmx.yml" \
    -cp "$KAFKA_LIBS/*" org.apache.kafka.connect.cli.ConnectDistributed "$STATE/etc/connect.properties"
