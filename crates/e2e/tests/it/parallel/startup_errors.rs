//! Bad input and missing servers: the service ends before anything starts, with a fitting exit code and an error that names the thing.

use e2e::sink::plain_topic;
use e2e::{Harness, Launch, PATIENCE};

use common::avro::registry::Registry;
use common::avro::schema::TRADE;
use common::kafka::admin::ensure_topics;

const SERVICES: [&str; 4] = ["raw-producer", "agg-producer", "jdbc-sink", "deribit-sim"];
const UNAVAILABLE: i32 = 69;
const CONFIG: i32 = 78;

/// How a service is started that sees only topics of this test.
fn launch(harness: &Harness) -> Launch {
    let topic = |of: &str| format!("{}.{of}", harness.name());
    let launch = harness.launch().set("STARTUP_DEADLINE", "20s");
    let launch = launch.set("TOPICS__TRADES", topic("trades")).set("TOPICS__CANDLES", topic("candles"));
    let launch = launch.set("TOPICS__MOVING_AVERAGES", topic("averages"));
    launch.set("TOPICS__LATE", topic("late")).set("TOPICS__DEAD_LETTER", topic("dlq"))
}

/// Runs a service that must end with that code, and whose error must name these things.
async fn check(harness: &Harness, service: &str, launch: &Launch, code: i32, names: &[&str]) {
    let exit = harness.run(service, launch).await.unwrap();
    exit.check(code, names).unwrap_or_else(|error| panic!("{service}: {error:#}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_knows_help_and_version_and_takes_its_own_defaults() {
    let harness = Harness::new("defaults").unwrap();
    for service in SERVICES {
        for argument in ["--help", "--version", "--check-config"] {
            check(&harness, service, &Launch::default().arguments(&[argument]), 0, &[]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_key_a_wrong_value_and_a_missing_file_are_78_and_name_themselves() {
    let harness = Harness::new("bad-config").unwrap();
    let checks_config = Launch::default().arguments(&["--check-config"]);
    let unknown_key = checks_config.clone().set("LOG__FILTRE", "info");
    let wrong_value = checks_config.set("STARTUP_DEADLINE", "soon");
    for service in SERVICES {
        let names = ["log.filtre", "KSTREAM__LOG__FILTRE", "log.filter"];
        check(&harness, service, &unknown_key, CONFIG, &names).await;
        check(&harness, service, &wrong_value, CONFIG, &["startup_deadline", "\"soon\"", "10s"]).await;
        let no_file = Launch::default().arguments(&["--config", "/nowhere.toml"]);
        check(&harness, service, &no_file, CONFIG, &["--config", "/nowhere.toml"]).await;
        let unknown_flag = Launch::default().arguments(&["--no-such-flag"]);
        check(&harness, service, &unknown_flag, CONFIG, &["--no-such-flag"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unavailable_servers_are_69_with_their_address() {
    let harness = Harness::new("unavailable").unwrap();
    for service in ["raw-producer", "agg-producer"] {
        let soon = launch(&harness).set("STARTUP_DEADLINE", "2s");
        let no_kafka = soon.set("KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1");
        let names = ["127.0.0.1:1", "startup_deadline", "2s"];
        check(&harness, service, &no_kafka, UNAVAILABLE, &names).await;
        // Long enough for Kafka to create the topics first.
        let later = launch(&harness).set("STARTUP_DEADLINE", "15s");
        let no_registry = later.set("SCHEMA_REGISTRY__URL", "http://127.0.0.1:1/v7");
        let names = ["127.0.0.1:1", "startup_deadline", "15s"];
        check(&harness, service, &no_registry, UNAVAILABLE, &names).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_78_and_named() {
    let harness = Harness::new("port").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for service in ["raw-producer", "agg-producer", "deribit-sim"] {
        let launch = launch(&harness).set("ADMIN__LISTEN", &address);
        check(&harness, service, &launch, CONFIG, &["admin.listen", &address]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_with_another_partition_count_is_78_and_named_with_both_counts() {
    let harness = Harness::new("partitions").unwrap();
    let topic = format!("{}.trades", harness.name());
    let kafka = harness.servers.kafka().unwrap();
    ensure_topics(&kafka, "e2e", &[plain_topic(&topic, 3)], PATIENCE).await.unwrap();
    for service in ["raw-producer", "agg-producer"] {
        let names = [&topic, "3", "6", "topics.partitions"];
        check(&harness, service, &launch(&harness), CONFIG, &names).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_that_holds_another_schema_is_78_and_named() {
    let harness = Harness::new("schema").unwrap();
    let subject = format!("{}.trades-value", harness.name());
    let url = format!("{}/subjects/{subject}/versions", harness.servers.registry().unwrap().url);
    let foreign = serde_json::json!({"schema": r#"{"type":"record","name":"Trade","namespace":"deribit","fields":[{"name":"price","type":"string"}]}"#});
    let answer = e2e::http().post(url).json(&foreign).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    check(&harness, "raw-producer", &launch(&harness), CONFIG, &[&subject]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_subjects_are_fully_transitive_and_the_registrys_global_level_stays() {
    let harness = Harness::new("level").unwrap();
    let config = harness.servers.registry().unwrap();
    let registry = Registry::new(&config).unwrap();
    let level = async |path: String| {
        e2e::get(format!("{}/config{path}", config.url)).await.unwrap().text().await.unwrap()
    };
    let before = level(String::new()).await;
    registry.register(harness.name(), &TRADE).await.unwrap();
    assert!(level(format!("/{}-value", harness.name())).await.contains("FULL_TRANSITIVE"));
    assert_eq!(level(String::new()).await, before);
}
