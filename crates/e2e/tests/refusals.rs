//! Bad input and missing parts: each ends before anything starts, with a message that names the thing and the way out, and a fitting exit code.
//!
//! Needs `make servers`; `make test` does it.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::process::Output;
use std::time::Duration;

use common::avro::registry::Registry;
use common::kafka::admin::{TopicSpec, ensure_topics};
use e2e::Stack;
use e2e::process::{names, run_to_end};

/// The environment of a service that finds the stack's servers, has no port of its own, and sees only topics of this test.
fn environment(stack: &Stack, test: &str) -> Vec<(&'static str, String)> {
    vec![
        ("KSTREAM__KAFKA__BOOTSTRAP_SERVERS", stack.kafka().unwrap().bootstrap_servers),
        ("KSTREAM__SCHEMA_REGISTRY__URL", stack.registry().unwrap().url.to_string()),
        ("KSTREAM__ADMIN__LISTEN", "127.0.0.1:0".into()),
        ("KSTREAM__TRACING__ZIPKIN_URL", String::new()),
        ("KSTREAM__STARTUP_DEADLINE", "20s".into()),
        ("KSTREAM__TOPICS__TRADES", format!("{test}.trades")),
        ("KSTREAM__TOPICS__CANDLES", format!("{test}.candles")),
        ("KSTREAM__TOPICS__MOVING_AVERAGES", format!("{test}.averages")),
        ("KSTREAM__TOPICS__LATE", format!("{test}.late")),
        ("KSTREAM__TOPICS__DEAD_LETTER", format!("{test}.dlq")),
    ]
}

fn with(
    mut environment: Vec<(&'static str, String)>,
    name: &'static str,
    value: &str,
) -> Vec<(&'static str, String)> {
    environment.push((name, value.to_owned()));
    environment
}

fn assert_ends(output: &Output, code: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for word in words {
        assert!(names(&said, word), "{word:?} is not in: {said}");
    }
}

const SERVICES: [&str; 4] = ["raw-producer", "agg-producer", "jdbc-sink", "deribit-sim"];

#[test]
fn every_service_knows_help_and_version_and_takes_its_own_defaults() {
    for service in SERVICES {
        assert_ends(&run_to_end(service, &["--help"], &[]).unwrap(), 0, &[]);
        assert_ends(&run_to_end(service, &["--version"], &[]).unwrap(), 0, &[]);
        assert_ends(&run_to_end(service, &["--check-config"], &[]).unwrap(), 0, &[]);
    }
}

#[test]
fn an_unknown_key_a_wrong_value_and_a_missing_file_are_78_and_name_themselves() {
    for service in SERVICES {
        let unknown = [("KSTREAM__LOG__FILTRE", "info".to_owned())];
        let output = run_to_end(service, &["--check-config"], &unknown).unwrap();
        assert_ends(&output, 78, &["log.filtre", "KSTREAM__LOG__FILTRE", "log.filter"]);
        let wrong = [("KSTREAM__STARTUP_DEADLINE", "soon".to_owned())];
        let output = run_to_end(service, &["--check-config"], &wrong).unwrap();
        assert_ends(&output, 78, &["startup_deadline", "\"soon\"", "10s"]);
        let output = run_to_end(service, &["--config", "/nowhere.toml"], &[]).unwrap();
        assert_ends(&output, 78, &["--config", "/nowhere.toml"]);
        let output = run_to_end(service, &["--no-such-flag"], &[]).unwrap();
        assert_ends(&output, 78, &["--no-such-flag"]);
    }
}

#[test]
fn servers_that_do_not_come_are_69_with_their_address() {
    let stack = Stack::find().unwrap();
    for service in ["raw-producer", "agg-producer"] {
        let soon = with(environment(&stack, "e2e-away"), "KSTREAM__STARTUP_DEADLINE", "2s");
        let no_kafka = with(soon.clone(), "KSTREAM__KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1");
        assert_ends(
            &run_to_end(service, &[], &no_kafka).unwrap(),
            69,
            &["127.0.0.1:1", "startup_deadline = 2s"],
        );
        // Long enough for Kafka to make the topics first.
        let later = with(environment(&stack, "e2e-away"), "KSTREAM__STARTUP_DEADLINE", "15s");
        let no_registry = with(later, "KSTREAM__SCHEMA_REGISTRY__URL", "http://127.0.0.1:1/v7");
        assert_ends(
            &run_to_end(service, &[], &no_registry).unwrap(),
            69,
            &["127.0.0.1:1", "startup_deadline = 15s"],
        );
    }
}

#[test]
fn a_taken_port_is_78_and_named() {
    let stack = Stack::find().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for service in ["raw-producer", "agg-producer", "deribit-sim"] {
        let environment = with(environment(&stack, "e2e-port"), "KSTREAM__ADMIN__LISTEN", &address);
        assert_ends(&run_to_end(service, &[], &environment).unwrap(), 78, &["admin.listen", &address]);
    }
}

#[tokio::test]
async fn a_topic_with_another_partition_count_is_78_and_says_what_to_do() {
    let stack = Stack::find().unwrap();
    let name = format!("e2e-partitions-{}", std::process::id());
    let spec = TopicSpec {
        name: format!("{name}.trades"),
        key: "topics.trades",
        partitions: 3,
        replication_factor: -1,
        retention: None,
        max_message_bytes: None,
        compacted: false,
    };
    ensure_topics(&stack.kafka().unwrap(), "e2e", &[spec], Duration::from_secs(20)).await.unwrap();
    for service in ["raw-producer", "agg-producer"] {
        let output = run_to_end(service, &[], &environment(&stack, &name)).unwrap();
        assert_ends(&output, 78, &[&format!("{name}.trades"), "3", "6", "topics.partitions"]);
    }
}

#[tokio::test]
async fn a_subject_that_holds_another_schema_is_78_and_named() {
    let stack = Stack::find().unwrap();
    let name = format!("e2e-schema-{}", std::process::id());
    let subject = format!("{name}.trades-value");
    let url = format!("{}/subjects/{subject}/versions", stack.registry().unwrap().url);
    let foreign = serde_json::json!({"schema": r#"{"type":"record","name":"Trade","namespace":"deribit","fields":[{"name":"price","type":"string"}]}"#});
    let answer = common::http::client().unwrap().post(url).json(&foreign).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    let output = run_to_end("raw-producer", &[], &environment(&stack, &name)).unwrap();
    assert_ends(&output, 78, &[&subject]);
}

#[tokio::test]
async fn our_subjects_are_fully_transitive_and_the_registrys_global_level_is_left_alone() {
    let stack = Stack::find().unwrap();
    let name = format!("e2e-level-{}", std::process::id());
    let registry = Registry::new(&stack.registry().unwrap()).unwrap();
    let level = async |path: String| {
        let url = format!("{}/config{path}", stack.registry().unwrap().url);
        e2e::get(url).await.unwrap().text().await.unwrap()
    };
    let before = level(String::new()).await;
    registry.register(&name, &common::avro::schema::TRADE).await.unwrap();
    assert!(level(format!("/{name}-value")).await.contains("FULL_TRANSITIVE"));
    assert_eq!(level(String::new()).await, before);
}
