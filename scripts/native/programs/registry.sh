# shellcheck shell=bash
# The schema registry, on Kafka storage: its default storage is memory, and ids that are gone after a restart are records nobody can read.
after kafka
# It starts by polling the (empty) topic of snapshots until a poll times out, 5 s by default; without a snapshot it replays the journal,
# so a shorter wait can lose nothing.
run_java "$REGISTRY_HOME" -Xms96m -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
    -Dquarkus.http.host=127.0.0.1 "-Dquarkus.http.port=$REGISTRY_PORT" \
    -Dquarkus.management.host=127.0.0.1 "-Dquarkus.management.port=$REGISTRY_HEALTH_PORT" \
    -Dapicurio.datasource.jdbc.initial-size=2 -Dapicurio.datasource.jdbc.min-size=2 \
    -Dapicurio.storage.kind=kafkasql "-Dapicurio.kafkasql.bootstrap.servers=127.0.0.1:$KAFKA_PORT" \
    -Dapicurio.kafkasql.consumer.poll.timeout=500 -jar "$REGISTRY_HOME/quarkus-run.jar"
