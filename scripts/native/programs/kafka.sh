# shellcheck shell=bash
# Broker and controller in one (KRaft). The first start formats its folder.
if [[ ! -e $STATE/kafka/meta.properties ]]; then
    cluster=$("$JAVA" -XX:TieredStopAtLevel=1 -cp "$KAFKA_LIBS/*" kafka.tools.StorageTool random-uuid 2>/dev/null)
    "$JAVA" -XX:TieredStopAtLevel=1 -cp "$KAFKA_LIBS/*" kafka.tools.StorageTool format --standalone --ignore-formatted \
        -t "$cluster" -c "$STATE/etc/kafka.properties"
fi
run_java "$KAFKA_LIBS" -Xms256m -Xmx512m -XX:+UseG1GC "-Dlog4j2.configurationFile=$STATE/etc/kafka.log4j2.properties" \
    -cp "$KAFKA_LIBS/*" kafka.Kafka "$STATE/etc/kafka.properties"
