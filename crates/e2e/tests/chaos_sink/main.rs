//! The tables have what the topics have, whatever happens to Postgres, Connect, the registry and Kafka under load.
//!
//! Each kind of fault once; with `FOR=10m`, then at random for as long as that, with outages as long as in the field. Afterwards every
//! record that can be decoded has its row, bit for bit, and every other is in the dead-letter topic.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "a test may")]

mod faults;
mod numbers;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use e2e::faults::time_asked;
use e2e::published::{Load, Publisher, Written, mix, now, trade};
use e2e::queries::{QUESTIONS, fill};
use e2e::sink::Sink;
use faults::Fault;
use serde_json::{Value, json};

/// Trades a tick: about 500 a second.
const TRADES_A_TICK: u64 = 10;

#[tokio::test(flavor = "multi_thread")]
async fn tables_have_what_the_topics_have_whatever_breaks() {
    let sink = Sink::make("chaos").await.unwrap();
    let service = sink.start(&[]).await.unwrap();
    let mut own = Publisher::new(&sink.stack, &sink.trades, &sink.averages).await.unwrap();
    let exact = numbers::publish(&mut own).unwrap();
    let load =
        Load::start(Publisher::new(&sink.stack, &sink.trades, &sink.averages).await.unwrap(), TRADES_A_TICK);

    let mut struck = Struck { sink: &sink, own, marks: 0, tried: BTreeMap::new(), long: false };
    struck.poison().await;
    for fault in Fault::ALL {
        struck.strike(fault).await;
    }
    // The stream runs on; what came up to the offsets at its start is compared.
    check(&sink.ask(&["verify", "--json", "--wait", "90s"]).unwrap());
    if let Some(time) = time_asked().unwrap() {
        struck.long = true;
        struck.at_random(Instant::now() + time).await;
    }

    let Struck { own, marks, tried, .. } = struck;
    own.flush().unwrap();
    let written = load.stop().unwrap();
    numbers::read_back(&sink).await.unwrap();
    let report = check(&sink.ask(&["verify", "--json", "--wait", "90s"]).unwrap());
    let own = exact + marks;
    let passed_over = tried.get(&Fault::RecordUnstorable).copied().unwrap_or_default();
    compare(&report, Written { trades: written.trades + own, ..written }, passed_over);
    println!("faults tried: {tried:?}");
    println!(
        "records compared: {} trades, {} averages; lost 0, doubled 0",
        written.trades + own,
        written.averages
    );
    let at = "jdbc_sink_last_verify_same{table=\"trades\"}";
    sink.until("the last verify is in the metrics", async || Ok(sink.metric(at).await? == Some(1.0)))
        .await
        .unwrap();
    drop(service);
    old_rows_go_and_are_not_missed(&sink, written.averages).await;
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

/// All averages of the load are years old.
async fn old_rows_go_and_are_not_missed(sink: &Sink, averages: u64) {
    let service = sink.start(&[("KSTREAM__RETENTION__MOVING_AVERAGES", "1d")]).await.unwrap();
    let client = sink.database().await.unwrap();
    sink.until("old averages are deleted", async || {
        let left: i64 = client.query_one("SELECT count(*) FROM moving_averages", &[]).await?.try_get(0)?;
        Ok(left == 0)
    })
    .await
    .unwrap();
    let report = check(&sink.ask(&["verify", "--json", "--wait", "30s"]).unwrap());
    let pair = &report["pairs"][1];
    assert_eq!((&pair["records"], &pair["left_out"]["deleted"]), (&0.into(), &averages.into()), "{pair:#}");
    drop(service);
}

/// With 78, and words that say what it is.
async fn what_was_changed_by_hand_is_refused(sink: &Sink) {
    let client = sink.database().await.unwrap();
    for (change, back, said) in [
        (
            "ALTER TABLE trades DROP CONSTRAINT trades_pkey",
            "ALTER TABLE trades ADD PRIMARY KEY (instrument_name, trade_seq)",
            "was changed by hand: its primary key is ()",
        ),
        (
            "INSERT INTO refinery_schema_history SELECT 9999, 'later', applied_on, checksum \
             FROM refinery_schema_history WHERE version = 1",
            "DELETE FROM refinery_schema_history WHERE version = 9999",
            "is ahead: it has migration V9999__later",
        ),
        (
            "UPDATE refinery_schema_history SET checksum = '1' WHERE version = 1",
            "SELECT 1",
            "was migrated by another V1__",
        ),
    ] {
        client.batch_execute(change).await.unwrap();
        let output = sink.run(&[]).unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{words}");
        assert!(words.contains(said), "{words}");
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
        let seed = mix(now().unsigned_abs());
        println!("faults at random, seed {seed}");
        let mut state = seed;
        while Instant::now() < end {
            state = mix(state);
            let at = usize::try_from(state % Fault::ALL.len() as u64).unwrap();
            self.strike(Fault::ALL[at]).await;
            tokio::time::sleep(Duration::from_millis(state >> 32 & 0xfff)).await;
        }
    }
}

fn check((code, report): &(Option<i32>, Value)) -> Value {
    assert_eq!((*code, &report["same"]), (Some(0), &Value::Bool(true)), "{report:#}");
    report.clone()
}

fn compare(report: &Value, written: Written, passed_over: u32) {
    let poison = json!({"malformed": 1, "not_wire_format": 1, "tombstone": 1, "unknown_schema": 1});
    let mut with_those = poison.clone();
    with_those["refused_by_postgres"] = passed_over.into();
    for (at, records, poison) in [(0, written.trades, with_those), (1, written.averages, poison)] {
        let pair = &report["pairs"][at];
        assert_eq!((&pair["records"], &pair["rows"]), (&records.into(), &records.into()), "{pair:#}");
        assert_eq!((&pair["undecodable"], &pair["without_dead_letter"]), (&poison, &0.into()), "{pair:#}");
    }
}
