//! The whole service between a simulated exchange and a real broker; what librdkafka's mock cluster cannot show, since it shows
//! aborted records too. `KSTREAM__KAFKA__BOOTSTRAP_SERVERS` and the like say where the servers are.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may")]

mod support;

use std::time::{Duration, Instant};

use deribit_sim::Simulator;
use support::{
    PARTITIONS, PATIENCE, Running, compare, config, exchange, read, topic, trades, until, until_whole, url,
};

const SERVERS: &str = "needs Kafka and the registry: make servers";

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Kafka and the registry"]
async fn what_happens_between_two_runs_is_fetched_and_everything_is_there_once() {
    let (exchange, topic) = (exchange(&[]).await, topic("resume"));
    let config = || config(&url(&exchange), &topic, &[]);
    let kafka = config().kafka;
    for pause in [3, 0, 1] {
        let running = Running::start(config()).await;
        until_whole(&kafka, &topic, (&exchange, 2_000)).await;
        running.stop().await.expect(SERVERS);
        seconds(pause).await;
    }
    compare(&kafka, &topic, &exchange);
    assert!(support::check_watermarks(&kafka, &topic) > 0);
    let records = read(&kafka, &topic, PARTITIONS);
    for (record, trade) in records.iter().zip(trades(&records)) {
        assert_eq!((record.key.as_str(), record.timestamp), (&*trade.instrument_name, trade.timestamp));
    }
    exchange.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Kafka and the registry"]
async fn of_two_producers_of_one_topic_the_older_ends_and_says_why() {
    let (exchange, topic) = (exchange(&[]).await, topic("two"));
    let config = || config(&url(&exchange), &topic, &[]);
    let kafka = config().kafka;
    let older = Running::start(config()).await;
    until_whole(&kafka, &topic, (&exchange, 1_000)).await;
    let newer = Running::start(config()).await;
    let failure = tokio::time::timeout(PATIENCE, older.end()).await.unwrap().unwrap_err();
    assert!(failure.to_string().contains("has taken over"), "{failure}");
    until_whole(&kafka, &topic, (&exchange, 1_000)).await;
    newer.stop().await.unwrap();
    compare(&kafka, &topic, &exchange);
    exchange.stop().await;
}

/// The real binary; killed in the end, whatever becomes of the test.
struct Process(std::process::Child);

impl Process {
    fn start(settings: &[(String, String)]) -> Self {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_raw-producer"));
        command.envs(settings.iter().cloned()).stderr(std::process::Stdio::inherit());
        Self(command.stdout(std::process::Stdio::null()).spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        let kill = std::process::Command::new("kill").args([name, &self.0.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }

    /// How it ends by itself.
    async fn end(mut self) -> std::process::ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "it has not ended by itself");
            seconds(1).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// How the real binary is told.
fn settings(exchange: &Simulator, topic: &str) -> Vec<(String, String)> {
    let (exchange_url, dead_letter) = (url(exchange), format!("{topic}.dlq"));
    let settings = [
        ("DERIBIT__URL", exchange_url.as_str()),
        ("TOPICS__TRADES", topic),
        ("TOPICS__DEAD_LETTER", &dead_letter),
        ("ADMIN__LISTEN", "127.0.0.1:0"),
        ("TRACING__ZIPKIN_URL", ""),
        ("LOG__FILTER", "warn"),
        ("SEQUENCE__RECONCILE_INTERVAL", "2s"),
        ("DERIBIT__CALLS_PER_SECOND", "200"),
    ];
    settings.map(|(key, value)| (format!("KSTREAM__{key}"), value.to_owned())).to_vec()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Kafka and the registry"]
async fn one_that_was_asleep_while_another_took_over_writes_nothing_when_it_wakes() {
    let (exchange, topic) = (exchange(&[]).await, topic("asleep"));
    let config = || config(&url(&exchange), &topic, &[]);
    let kafka = config().kafka;
    let older = Process::start(&settings(&exchange, &topic));
    // In the middle of a transaction, as likely as not; and with more in its sockets and queues.
    until_whole(&kafka, &topic, (&exchange, 2_000)).await;
    older.signal("-STOP");
    let newer = Running::start(config()).await;
    until_whole(&kafka, &topic, (&exchange, 1_000)).await;
    older.signal("-CONT");
    let status = older.end().await;
    assert_eq!(status.code(), Some(1));
    until_whole(&kafka, &topic, (&exchange, 0)).await;
    newer.stop().await.unwrap();
    compare(&kafka, &topic, &exchange);
    support::check_watermarks(&kafka, &topic);
    exchange.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Kafka and the registry"]
async fn a_topic_that_starts_days_ago_is_filled_instrument_by_instrument_and_then_by_time() {
    let settings = [("MARKET__RATE", "0.2"), ("MARKET__INSTRUMENTS", "40"), ("LIMITS__CREDITS", "false")];
    let (exchange, topic) = (exchange(&settings).await, topic("deep"));
    let more = [("DERIBIT__START_FROM", "3d"), ("DERIBIT__CALLS_PER_SECOND", "1000")];
    let config = || config(&url(&exchange), &topic, &more);
    let kafka = config().kafka;
    // Stopped in the middle, it goes on where it was.
    let running = Running::start(config()).await;
    seconds(2).await;
    running.stop().await.unwrap();
    let running = Running::start(config()).await;
    until_whole(&kafka, &topic, (&exchange, 0)).await;
    running.stop().await.unwrap();
    println!("{} trades compared", compare(&kafka, &topic, &exchange));
    exchange.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Kafka and the registry"]
async fn of_two_connections_one_may_be_lost_at_any_time() {
    let topic = topic("pair");
    let plan = std::env::temp_dir().join(format!("{topic}.faults.toml"));
    let cuts_and_drops = "[[fault]]\nkind = \"cut\"\none_in = 100\n[[fault]]\nkind = \"drop\"\none_in = 50";
    std::fs::write(&plan, cuts_and_drops).unwrap();
    let exchange = exchange(&[("FAULTS__FILE", plan.to_str().unwrap())]).await;
    let config = || config(&url(&exchange), &topic, &[("DERIBIT__CONNECTIONS", "2")]);
    let kafka = config().kafka;
    let running = Running::start(config()).await;
    until("10 faults", || exchange.faults().values().sum::<u64>() >= 10).await;
    until_whole(&kafka, &topic, (&exchange, 0)).await;
    running.stop().await.unwrap();
    println!("{} trades compared", compare(&kafka, &topic, &exchange));
    exchange.stop().await;
}
