//! `verify` proves that the tables hold what the topics hold, and names each record without a row with its reason.
//!
//! Needs `make run FEED=sim` followed by `make pause`; `make test` does both.

use anyhow::Context as _;
use common::avro::registry::Registry;
use common::avro::schema::TRADE;
use common::kafka::admin::ensure_topics;
use common::kafka::client::{Role, config};
use e2e::sink::plain_topic;
use e2e::{Harness, Launch, PATIENCE, ServiceExit};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::Value;

/// How a command of jdbc-sink is run on the pipeline's own topics and tables.
fn launch(harness: &Harness) -> Launch {
    let servers = &harness.servers;
    let postgres =
        format!("postgresql://kstream@127.0.0.1:{}/kstream", servers.port("POSTGRES_PORT").unwrap());
    let password_file = servers.root().join("secrets/postgres_password").display().to_string();
    let launch = harness.launch().set("CONNECT__URL", servers.url("CONNECT_PORT", "").unwrap());
    launch.set("POSTGRES__URL", postgres).set("POSTGRES__PASSWORD_FILE", password_file)
}

fn report(exit: &ServiceExit) -> Value {
    serde_json::from_str(&exit.stdout).with_context(|| format!("{exit:?}")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_and_tables_are_the_same_and_nothing_is_left_to_write() {
    let harness = Harness::new("verify").unwrap();
    let verify = launch(&harness).arguments(&["verify", "--json"]);
    let exit = harness.run("jdbc-sink", &verify).await.unwrap();
    let verified = report(&exit);
    assert_eq!(exit.code(), Some(0), "{verified:#}");
    assert_eq!(verified["match"], true);
    for pair in verified["sinks"].as_array().unwrap() {
        assert!(pair["records"].as_u64().unwrap() > 0, "{pair:#}");
        assert_eq!(pair["records"], pair["rows"]);
    }
    let status = launch(&harness).arguments(&["status", "--json"]);
    let exit = harness.run("jdbc-sink", &status).await.unwrap();
    let status = report(&exit);
    assert_eq!(exit.code(), Some(0), "{status:#}");
    for connector in status["connectors"].as_array().unwrap() {
        assert_eq!((&connector["running"], &connector["lag"]["records"]), (&true.into(), &0.into()));
    }
}

/// In topics of its own, which no connector reads: so each poisoned record is also missing from the dead-letter topic.
#[tokio::test(flavor = "multi_thread")]
async fn records_without_a_row_are_counted_by_reason_and_looked_up_among_the_dead_letters() {
    let harness = Harness::new("verify-poison").unwrap();
    let topic = |of: &str| format!("{}.{of}", harness.name());
    let (trades, averages) = (topic("trades"), topic("averages"));
    let names = [&trades, &averages, &format!("{trades}.connect-dlq"), &format!("{averages}.connect-dlq")];
    let kafka = harness.servers.kafka().unwrap();
    ensure_topics(&kafka, "e2e", &names.map(|name| plain_topic(name, 1)), PATIENCE).await.unwrap();
    let registry = Registry::new(&harness.servers.registry().unwrap()).unwrap();
    let id = registry.register(&trades, &TRADE).await.unwrap();
    let producer: FutureProducer = config(&kafka, "e2e", &Role::Producer).create().unwrap();
    let truncated = [&[0][..], &id.to_be_bytes(), &[6, b'B']].concat();
    let poison: [Option<&[u8]>; 4] = [Some(b"bytes"), Some(&truncated), Some(&[0, 0, 15, 66, 63, 1]), None];
    for value in poison {
        let mut record = FutureRecord::<str, [u8]>::to(&trades).key("POISON");
        record.payload = value;
        producer.send(record, PATIENCE).await.unwrap();
    }
    let verify = launch(&harness).arguments(&["verify", "--json", "--wait", "1s"]);
    let verify = verify.set("TOPICS__TRADES", &trades).set("TOPICS__MOVING_AVERAGES", &averages);
    let exit = harness.run("jdbc-sink", &verify).await.unwrap();
    assert_eq!(exit.code(), Some(1), "{exit:?}");
    assert!(!exit.error.is_empty(), "it does not say why");
    let verified = report(&exit);
    assert_eq!(verified["match"], false);
    let pair = &verified["sinks"][0];
    let expected =
        serde_json::json!({"malformed": 1, "not_wire_format": 1, "tombstone": 1, "unknown_schema": 1});
    assert_eq!(pair["undecodable"], expected, "{pair:#}");
    assert_eq!(pair["missing_dead_letters"], 4, "{pair:#}");
}
