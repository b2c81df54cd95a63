//! The tables have what the topics have, whatever happens to Postgres, Connect, the registry and Kafka under load.
//!
//! The load is the pipeline's own: a simulated exchange, the raw producer and the aggregator; what an exchange would not send is written beside
//! it. Each kind of fault once; with `FOR=10m` with outages as long as in the field, and then at random until that is over. Afterwards
//! every record that can be decoded has its row, bit for bit, every other is in the dead-letter topic, and the rows are the exchange's trades.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "a test may")]

mod faults;
mod numbers;
mod traded;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use e2e::faults::{chance, time_asked};
use e2e::ingest::Ingest;
use e2e::process::Process;
use e2e::published::{Publisher, average, now, trade};
use e2e::queries::{QUESTIONS, fill};
use e2e::sink::Sink;
use faults::Fault;
use serde_json::{Value, json};

/// Averages that are years old, for retention to delete.
const OLD: u64 = 100;

/// Started again if it has ended, as a supervisor would, but nothing may end it but a fence: when Kafka goes away while it joins its
/// group, it may ask twice, and be fenced off by itself.
fn supervised(mut aggregator: Process, ingest: &Ingest) -> Process {
    let Some(ended) = aggregator.ended().unwrap() else { return aggregator };
    assert!(ended.is_fenced(), "the aggregator: {ended:?}");
    println!("the aggregator was fenced off by itself and is started again");
    ingest.aggregate().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_have_what_the_topics_have_whatever_breaks() {
    let began = Instant::now();
    let time = time_asked().unwrap();
    let mut ingest = Ingest::open(&format!("chaos-{}", now()), "", &[]).await.unwrap();
    let sink = Sink::of("chaos", (ingest.topic().to_owned(), ingest.averages())).await.unwrap();
    let service = sink.start(&[]).await.unwrap();
    let producer = ingest.produce().unwrap();
    let mut aggregator = ingest.aggregate().unwrap();
    ingest.until_whole().await.unwrap();
    let mut own = Publisher::new(&sink.stack, &sink.trades, &sink.averages).await.unwrap();
    numbers::publish(&mut own).unwrap();
    for number in 0..OLD {
        own.average(&average(number)).unwrap();
    }

    let mut struck = Struck { sink: &sink, own, marks: 0, tried: BTreeMap::new(), long: time.is_some() };
    struck.poison().await;
    for fault in Fault::ALL {
        struck.strike(fault).await;
        aggregator = supervised(aggregator, &ingest);
    }
    // The stream runs on; what came up to the offsets at its start is compared.
    check(&sink.ask(&["verify", "--json", "--wait", "90s"]).unwrap());
    if let Some(time) = time {
        struck.at_random(began + time).await;
    }

    let Struck { own, tried, .. } = struck;
    own.flush().unwrap();
    let through = ingest.until_whole().await.unwrap();
    Ingest::stop(producer).unwrap();
    Ingest::stop(supervised(aggregator, &ingest)).unwrap();
    numbers::read_back(&sink).await.unwrap();
    let report = check(&sink.ask(&["verify", "--json", "--wait", "90s"]).unwrap());
    let times = |fault| tried.get(&fault).copied().unwrap_or_default();
    let records = compare(&report, times(Fault::RecordUnstorable));
    let traded = traded::compare(&sink, &ingest, through).await.unwrap();
    ingest.close_exchange().await;
    println!("faults tried: {tried:?}");
    println!("records compared: {} trades, {} averages; lost 0, doubled 0", records[0], records[1]);
    println!("rows compared with the exchange: {traded}, each field of each");
    let at = "jdbc_sink_last_verify_same{table=\"trades\"}";
    sink.until("the last verify is in the metrics", async || Ok(sink.metric(at).await? == Some(1.0)))
        .await
        .unwrap();
    drop(service);
    let old = OLD + u64::from(times(Fault::SchemaRegisteredLater));
    old_rows_go_and_are_not_missed(&sink, (old, records[1])).await;
    what_was_changed_by_hand_is_refused(&sink).await;
    the_three_questions_are_answered_by_index_alone(&sink).await;
    sink.throw_away().await.unwrap();
}

/// Enough rows for reading all of them to be dear; `make bench` asks the same of ten million.
async fn the_three_questions_are_answered_by_index_alone(sink: &Sink) {
    let client = sink.database().await.unwrap();
    fill(&client, 500_000).await.unwrap();
    for question in QUESTIONS {
        question.check_plan(&client).await.unwrap();
    }
}

/// Those of the load are of today, and stay.
async fn old_rows_go_and_are_not_missed(sink: &Sink, (old, all): (u64, u64)) {
    let service = sink.start(&[("KSTREAM__RETENTION__MOVING_AVERAGES", "1d")]).await.unwrap();
    let client = sink.database().await.unwrap();
    let left = i64::try_from(all - old).unwrap();
    sink.until("old averages are deleted", async || {
        let rows: i64 = client.query_one("SELECT count(*) FROM moving_averages", &[]).await?.try_get(0)?;
        Ok(rows == left)
    })
    .await
    .unwrap();
    let report = check(&sink.ask(&["verify", "--json", "--wait", "30s"]).unwrap());
    let pair = &report["pairs"][1];
    assert_eq!((&pair["records"], &pair["left_out"]["deleted"]), (&left.into(), &old.into()), "{pair:#}");
    drop(service);
}

/// With 78, and words that say what it is.
async fn what_was_changed_by_hand_is_refused(sink: &Sink) {
    let client = sink.database().await.unwrap();
    for (change, back, names) in [
        (
            "ALTER TABLE trades DROP CONSTRAINT trades_pkey",
            "ALTER TABLE trades ADD PRIMARY KEY (instrument_name, trade_seq)",
            &["trades", "()"][..],
        ),
        (
            "INSERT INTO refinery_schema_history SELECT 9999, 'later', applied_on, checksum \
             FROM refinery_schema_history WHERE version = 1",
            "DELETE FROM refinery_schema_history WHERE version = 9999",
            &["V9999__later"],
        ),
        ("UPDATE refinery_schema_history SET checksum = '1' WHERE version = 1", "SELECT 1", &["V1__"]),
    ] {
        client.batch_execute(change).await.unwrap();
        let output = sink.run(&[]).unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{error}");
        assert!(names.iter().all(|name| error.contains(name)), "{names:?} are not in: {error}");
        client.batch_execute(back).await.unwrap();
    }
}

/// A sink to which things are done, one after another.
struct Struck<'a> {
    sink: &'a Sink,
    own: Publisher,
    /// Trades that were written to see rows flow again.
    marks: u64,
    tried: BTreeMap<Fault, u32>,
    long: bool,
}

impl Struck<'_> {
    /// Does it, and waits until a trade written afterwards has its row.
    async fn strike(&mut self, fault: Fault) {
        let began = Instant::now();
        if let Some(why_not) = fault.strike(self.sink, self.long).await.unwrap() {
            println!("\n!!! {why_not} !!!\n");
            return;
        }
        let ended = began.elapsed();
        self.mark().await;
        *self.tried.entry(fault).or_default() += 1;
        println!("{fault:?}: {ended:.1?}, rows flow {:.1?} after its end", began.elapsed() - ended);
    }

    async fn mark(&mut self) {
        self.marks += 1;
        let sequence = i64::try_from(self.marks).unwrap();
        let mark = common::model::Trade {
            instrument_name: "MARK".into(),
            trade_seq: sequence,
            ..trade(self.marks, now())
        };
        self.own.trade(&mark).unwrap();
        let sink = self.sink;
        sink.until("a trade has its row", async || {
            let sql = "SELECT count(*) FROM trades WHERE instrument_name = 'MARK' AND trade_seq = $1";
            let found: i64 = sink.database().await?.query_one(sql, &[&sequence]).await?.try_get(0)?;
            Ok(found == 1)
        })
        .await
        .unwrap();
    }

    /// Of each kind of record that has no row one in each topic, and they become dead letters.
    async fn poison(&mut self) {
        for (topic, connector) in
            [(&self.sink.trades, "kstream-trades"), (&self.sink.averages, "kstream-moving-averages")]
        {
            let registry =
                common::avro::registry::Registry::new(&self.sink.stack.registry().unwrap()).unwrap();
            let contract = if topic == &self.sink.trades {
                &common::avro::schema::TRADE
            } else {
                &common::avro::schema::MOVING_AVERAGE
            };
            let id = registry.register(topic, contract).await.unwrap();
            let truncated = [&[0][..], &id.to_be_bytes(), &[6, b'B']].concat();
            for value in [Some(&b"bytes"[..]), Some(&truncated), Some(&[0, 0, 15, 66, 63, 1]), None] {
                self.own.raw(topic, value).unwrap();
            }
            for reason in ["not_wire_format", "malformed", "unknown_schema", "tombstone"] {
                let metric =
                    format!("jdbc_sink_dead_letters{{connector=\"{connector}\",reason=\"{reason}\"}}");
                let sink = self.sink;
                sink.until(&metric, async || Ok(sink.metric(&metric).await? == Some(1.0))).await.unwrap();
            }
        }
    }

    async fn at_random(&mut self, end: Instant) {
        let mut rng = chance().unwrap();
        while Instant::now() < end {
            self.strike(*rng.choice(&Fault::ALL).unwrap()).await;
            tokio::time::sleep(Duration::from_millis(rng.u64(0..4_000))).await;
        }
    }
}

fn check((code, report): &(Option<i32>, Value)) -> Value {
    assert_eq!((*code, &report["same"]), (Some(0), &Value::Bool(true)), "{report:#}");
    report.clone()
}

/// Every record of both topics has its row, or is one that was meant to have none. Says how many have.
fn compare(report: &Value, passed_over: u32) -> [u64; 2] {
    let poison = json!({"malformed": 1, "not_wire_format": 1, "tombstone": 1, "unknown_schema": 1});
    let mut with_those = poison.clone();
    with_those["refused_by_postgres"] = passed_over.into();
    [with_those, poison].map({
        let mut pairs = report["pairs"].as_array().unwrap().iter();
        move |poison| {
            let pair = pairs.next().unwrap();
            assert_eq!(pair["records"], pair["rows"], "{pair:#}");
            assert_eq!(
                (&pair["undecodable"], &pair["without_dead_letter"]),
                (&poison, &0.into()),
                "{pair:#}"
            );
            pair["records"].as_u64().unwrap()
        }
    })
}
