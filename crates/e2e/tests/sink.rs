//! The tables are proved to hold what the topics hold, and what has no row is named with its reason.
//!
//! Needs `make run FEED=sim` followed by `make pause`; `make test` does both.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::time::Duration;

use common::kafka::admin::{TopicSpec, ensure_topics};
use common::kafka::client::{Role, config};
use e2e::Stack;
use e2e::process::run_to_end;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::Value;

fn environment(stack: &Stack) -> Vec<(&'static str, String)> {
    let postgres = format!("postgresql://kstream@127.0.0.1:{}/kstream", stack.port("POSTGRES_PORT").unwrap());
    let password_file = stack.root().join("secrets/postgres_password");
    vec![
        ("KSTREAM__KAFKA__BOOTSTRAP_SERVERS", stack.kafka().unwrap().bootstrap_servers),
        ("KSTREAM__SCHEMA_REGISTRY__URL", stack.registry().unwrap().url.to_string()),
        ("KSTREAM__CONNECT__URL", stack.url("CONNECT_PORT", "").unwrap()),
        ("KSTREAM__POSTGRES__URL", postgres),
        ("KSTREAM__POSTGRES__PASSWORD_FILE", password_file.display().to_string()),
    ]
}

#[test]
fn topics_and_tables_are_the_same_and_nothing_waits() {
    let stack = Stack::find().unwrap();
    let output = run_to_end("jdbc-sink", &["verify", "--json"], &environment(&stack)).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert_eq!(report["same"], true);
    for pair in report["pairs"].as_array().unwrap() {
        assert!(pair["records"].as_u64().unwrap() > 0, "{pair:#}");
        assert_eq!(pair["records"], pair["rows"]);
    }
    let output = run_to_end("jdbc-sink", &["status", "--json"], &environment(&stack)).unwrap();
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{status:#}");
    for connector in status["connectors"].as_array().unwrap() {
        assert_eq!((&connector["running"], &connector["lag"]["records"]), (&true.into(), &0.into()));
    }
}

/// In topics of its own, which no connector reads: so each poisoned record is also missing from the dead-letter topic.
#[tokio::test]
async fn records_without_a_row_are_counted_by_reason_and_looked_for_among_the_dead_letters() {
    let (stack, name) = (Stack::find().unwrap(), format!("e2e-poison-{}", std::process::id()));
    let (trades, averages) = (format!("{name}.trades"), format!("{name}.averages"));
    let topics = [
        trades.clone(),
        averages.clone(),
        format!("{trades}.connect-dlq"),
        format!("{averages}.connect-dlq"),
    ];
    let specs = topics.map(|name| TopicSpec {
        name,
        key: "topics.trades",
        partitions: 1,
        replication_factor: -1,
        retention: None,
        max_message_bytes: None,
        compacted: false,
    });
    let kafka = stack.kafka().unwrap();
    ensure_topics(&kafka, "e2e", &specs, Duration::from_secs(20)).await.unwrap();
    let registry = common::avro::registry::Registry::new(&stack.registry().unwrap()).unwrap();
    let id = registry.register(&trades, &common::avro::schema::TRADE).await.unwrap();
    let producer: FutureProducer = config(&kafka, "e2e", &Role::Producer).create().unwrap();
    let truncated = [&[0][..], &id.to_be_bytes(), &[6, b'B']].concat();
    let poison: [Option<&[u8]>; 4] = [Some(b"bytes"), Some(&truncated), Some(&[0, 0, 15, 66, 63, 1]), None];
    for value in poison {
        let mut record = FutureRecord::<str, [u8]>::to(&trades).key("POISON");
        record.payload = value;
        producer.send(record, Duration::from_secs(20)).await.unwrap();
    }
    let mut environment = environment(&stack);
    environment.extend([("KSTREAM__TOPICS__TRADES", trades), ("KSTREAM__TOPICS__MOVING_AVERAGES", averages)]);
    let output = run_to_end("jdbc-sink", &["verify", "--json", "--wait", "1s"], &environment).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.lines().any(|line| line.starts_with("jdbc-sink: ")), "no last words: {said}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let pair = &report["pairs"][0];
    let expected =
        serde_json::json!({"malformed": 1, "not_wire_format": 1, "tombstone": 1, "unknown_schema": 1});
    assert_eq!(pair["undecodable"], expected, "{pair:#}");
    assert_eq!(pair["without_dead_letter"], 4, "{pair:#}");
}
