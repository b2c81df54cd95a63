//! The settings of every Kafka client of the project, by role.
//!
//! What a promise rests on is set here and cannot be overridden ([`PINNED_PROPERTIES`]); everything else of librdkafka's is the
//! user's, by `kafka.properties`.

use rdkafka::ClientConfig;

use crate::config::KafkaConfig;

/// What a client is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Writes each record once and in order, for as long as it takes.
    Producer,
    /// As [`Role::Producer`], in transactions; an older one of the same id is fenced.
    TransactionalProducer {
        /// Named after what it guards.
        transactional_id: String,
    },
    /// As [`Role::TransactionalProducer`], of what is made of a group's records: asks whether a transaction is committed, never whether a
    /// record has arrived.
    TransformingProducer {
        /// Named after what it guards.
        transactional_id: String,
    },
    /// Reads committed records as a static member of a group; commits only through a transaction.
    GroupConsumer {
        /// The group.
        group_id: String,
        /// The member; a second one of the same name ends the older.
        group_instance_id: String,
    },
    /// Reads committed records of partitions that it is told, in no group.
    Reader,
    /// As [`Role::Reader`], and can ask how far a group of others has committed.
    GroupObserver {
        /// The others' group.
        group_id: String,
    },
    /// As [`Role::Reader`], and sees open and aborted transactions: for ends of partitions only.
    UncommittedReader,
    /// Makes and describes topics.
    Admin,
}

/// Properties that a role sets, with their values.
fn of_role(role: &Role) -> Vec<(&'static str, &str)> {
    match role {
        Role::Producer => producer().into_iter().chain([("message.timeout.ms", "0")]).collect(),
        Role::TransactionalProducer { transactional_id } => {
            producer().into_iter().chain(in_transactions(transactional_id)).collect()
        }
        Role::TransformingProducer { transactional_id } => {
            let own = [
                ("delivery.report.only.error", "true"),
                // A close makes two records of each instrument: so many wait in memory, the rest until there is room.
                ("queue.buffering.max.messages", "2000"),
            ];
            producer().into_iter().chain(in_transactions(transactional_id)).chain(own).collect()
        }
        Role::GroupConsumer { group_id, group_instance_id } => {
            let own = [
                ("group.id", group_id.as_str()),
                ("group.instance.id", group_instance_id),
                ("group.protocol", "classic"),
                ("partition.assignment.strategy", "cooperative-sticky"),
                // A restart within the session moves nothing; a dead member is missed after it.
                ("session.timeout.ms", "6000"),
                ("heartbeat.interval.ms", "1500"),
                ("isolation.level", "read_committed"),
                // An offset that is gone must not become another one in silence.
                ("auto.offset.reset", "error"),
                // Where the lag of each partition is told.
                ("statistics.interval.ms", "5000"),
                // What waits here, and what comes at once of each partition, compressed, is what a process that catches up has in memory.
                ("queued.max.messages.kbytes", "1024"),
                ("fetch.message.max.bytes", "131072"),
            ];
            consumer().into_iter().chain(own).collect()
        }
        // librdkafka wants a group id of every consumer; without a subscription nothing joins it.
        Role::Reader => consumer()
            .into_iter()
            .chain([("group.id", "none"), ("isolation.level", "read_committed")])
            .collect(),
        Role::GroupObserver { group_id } => consumer()
            .into_iter()
            .chain([("group.id", group_id.as_str()), ("isolation.level", "read_committed")])
            .collect(),
        Role::UncommittedReader => consumer()
            .into_iter()
            .chain([("group.id", "none"), ("isolation.level", "read_uncommitted")])
            .collect(),
        Role::Admin => Vec::new(),
    }
}

fn producer() -> [(&'static str, &'static str); 7] {
    [
        ("enable.idempotence", "true"),
        ("acks", "all"),
        // Java's default, so that its clients find a key in the same partition.
        ("partitioner", "murmur2_random"),
        ("compression.type", "zstd"),
        ("linger.ms", "5"),
        // The bound of what waits in memory; a full queue is the producer's back-pressure.
        ("queue.buffering.max.messages", "100000"),
        ("queue.buffering.max.kbytes", "16384"),
    ]
}

fn in_transactions(id: &str) -> [(&'static str, &str); 5] {
    [
        ("transactional.id", id),
        // A commit waits for every record: what a transaction has is sent while the rest of it is gathered.
        ("linger.ms", "1"),
        // A transaction that begins while Kafka still writes the last one's markers is told to come back; at the default of 100 ms
        // every reader would wait as long.
        ("retry.backoff.ms", "10"),
        // An abandoned transaction holds up every read-committed reader until it times out.
        ("transaction.timeout.ms", "10000"),
        // As much as the dead-letter topic takes: what came in must also go there, with its headers.
        ("message.max.bytes", "2097152"),
    ]
}

fn consumer() -> [(&'static str, &'static str); 7] {
    [
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("auto.offset.reset", "earliest"),
        ("allow.auto.create.topics", "false"),
        ("enable.partition.eof", "false"),
        // At its default of 1000 a consumer that catches up stands still most of the time.
        ("fetch.queue.backoff.ms", "2"),
        ("queued.max.messages.kbytes", "8192"),
    ]
}

/// Properties that `kafka.properties` may not set: what the services promise rests on them.
pub const PINNED_PROPERTIES: [&str; 27] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "client.id",
    "enable.idempotence",
    "enable.gapless.guarantee",
    "acks",
    "request.required.acks",
    "retries",
    "message.send.max.retries",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "partitioner",
    "transactional.id",
    "transaction.timeout.ms",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "partition.assignment.strategy",
    "isolation.level",
    "enable.auto.commit",
    "auto.commit.enable",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "enable.partition.eof",
    "check.crcs",
];

/// The settings for a client of `service` in `role`.
#[must_use]
pub fn config(kafka: &KafkaConfig, service: &str, role: &Role) -> ClientConfig {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &kafka.bootstrap_servers);
    config.set("client.id", service);
    config.set("socket.keepalive.enable", "true");
    config.set("check.crcs", "true");
    for (name, value) in of_role(role) {
        config.set(name, value);
    }
    for (name, value) in &kafka.properties {
        config.set(name, value);
    }
    config
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn kafka(properties: &[(&str, &str)]) -> KafkaConfig {
        let properties = properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        KafkaConfig { bootstrap_servers: "h:1".into(), properties }
    }

    fn settings(role: &Role) -> BTreeMap<String, String> {
        config(&kafka(&[]), "svc", role)
            .config_map()
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn roles() -> [Role; 8] {
        [
            Role::Producer,
            Role::TransactionalProducer { transactional_id: "t".into() },
            Role::TransformingProducer { transactional_id: "t".into() },
            Role::GroupConsumer { group_id: "g".into(), group_instance_id: "g-0-0".into() },
            Role::Reader,
            Role::GroupObserver { group_id: "others".into() },
            Role::UncommittedReader,
            Role::Admin,
        ]
    }

    #[test]
    fn the_whole_list_of_settings_of_each_role_is_pinned() {
        let list = roles().map(|role| {
            settings(&role).into_iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ")
        });
        let base = "bootstrap.servers=h:1 check.crcs=true client.id=svc";
        assert_eq!(
            list,
            [
                "acks=all bootstrap.servers=h:1 check.crcs=true client.id=svc compression.type=zstd \
                 enable.idempotence=true linger.ms=5 message.timeout.ms=0 partitioner=murmur2_random \
                 queue.buffering.max.kbytes=16384 queue.buffering.max.messages=100000 socket.keepalive.enable=true"
                    .to_owned(),
                "acks=all bootstrap.servers=h:1 check.crcs=true client.id=svc compression.type=zstd \
                 enable.idempotence=true linger.ms=1 message.max.bytes=2097152 partitioner=murmur2_random \
                 queue.buffering.max.kbytes=16384 queue.buffering.max.messages=100000 retry.backoff.ms=10 socket.keepalive.enable=true \
                 transaction.timeout.ms=10000 \
                 transactional.id=t"
                    .to_owned(),
                "acks=all bootstrap.servers=h:1 check.crcs=true client.id=svc compression.type=zstd delivery.report.only.error=true \
                 enable.idempotence=true linger.ms=1 message.max.bytes=2097152 partitioner=murmur2_random \
                 queue.buffering.max.kbytes=16384 queue.buffering.max.messages=2000 retry.backoff.ms=10 socket.keepalive.enable=true \
                 transaction.timeout.ms=10000 \
                 transactional.id=t"
                    .to_owned(),
                format!(
                    "allow.auto.create.topics=false auto.offset.reset=error {base} enable.auto.commit=false \
                     enable.auto.offset.store=false enable.partition.eof=false fetch.message.max.bytes=131072 fetch.queue.backoff.ms=2 group.id=g \
                     group.instance.id=g-0-0 group.protocol=classic heartbeat.interval.ms=1500 \
                     isolation.level=read_committed partition.assignment.strategy=cooperative-sticky \
                     queued.max.messages.kbytes=1024 session.timeout.ms=6000 socket.keepalive.enable=true \
                     statistics.interval.ms=5000"
                ),
                format!(
                    "allow.auto.create.topics=false auto.offset.reset=earliest {base} enable.auto.commit=false \
                     enable.auto.offset.store=false enable.partition.eof=false fetch.queue.backoff.ms=2 group.id=none \
                     isolation.level=read_committed queued.max.messages.kbytes=8192 socket.keepalive.enable=true"
                ),
                format!(
                    "allow.auto.create.topics=false auto.offset.reset=earliest {base} enable.auto.commit=false \
                     enable.auto.offset.store=false enable.partition.eof=false fetch.queue.backoff.ms=2 group.id=others \
                     isolation.level=read_committed queued.max.messages.kbytes=8192 socket.keepalive.enable=true"
                ),
                format!(
                    "allow.auto.create.topics=false auto.offset.reset=earliest {base} enable.auto.commit=false \
                     enable.auto.offset.store=false enable.partition.eof=false fetch.queue.backoff.ms=2 group.id=none \
                     isolation.level=read_uncommitted queued.max.messages.kbytes=8192 socket.keepalive.enable=true"
                ),
                format!("{base} socket.keepalive.enable=true"),
            ]
        );
    }

    #[test]
    fn librdkafka_takes_the_settings_of_every_role() {
        for role in roles() {
            config(&kafka(&[]), "svc", &role).create_native_config().unwrap();
        }
    }

    #[test]
    fn a_property_of_the_users_wins_over_one_that_no_promise_rests_on() {
        let tuned =
            config(&kafka(&[("linger.ms", "1"), ("security.protocol", "ssl")]), "svc", &Role::Producer);
        assert_eq!((tuned.get("linger.ms"), tuned.get("security.protocol")), (Some("1"), Some("ssl")));
    }

    #[test]
    fn every_pinned_property_is_known_to_librdkafka_and_listed_once() {
        assert_eq!(PINNED_PROPERTIES.iter().collect::<BTreeSet<_>>().len(), PINNED_PROPERTIES.len());
        let native = config(&kafka(&[]), "svc", &Role::Admin).create_native_config().unwrap();
        for name in PINNED_PROPERTIES {
            // A property that has no value yet is known all the same; only an unknown one is refused as such.
            let found = native.get(name);
            let unknown =
                found.as_ref().is_err_and(|error| format!("{error:?}").contains("RD_KAFKA_CONF_UNKNOWN"));
            assert!(!unknown, "{name}: {found:?}");
        }
    }
}
