//! A sink at work: the whole pipeline from a simulated exchange to the tables, and what must be in them at the end.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use common::avro::registry::Registry;
use common::avro::schema::{MOVING_AVERAGE, TRADE};
use common::model::Trade;
use e2e::fixtures::{FixtureWriter, now_millis, trade};
use e2e::ingest::IngestFixture;
use e2e::metric_names::{DEAD_LETTERS, LAST_VERIFY_SUCCESS};
use e2e::sink::{AVERAGES_CONNECTOR, SinkFixture, TRADES_CONNECTOR};
use e2e::topic::DecodedTopic;
use e2e::{PATIENCE, Service, eventually};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::exchange_rows;
use super::faults::SinkFault;

/// The kinds of records without a row.
const POISON: [&str; 4] = ["malformed", "not_wire_format", "tombstone", "unknown_schema"];

/// The pipeline at work.
pub(super) struct SinkUnderLoad {
    pub(super) sink: SinkFixture,
    pub(super) service: Service,
    /// Whether outages are as long as in the field.
    pub(super) long: bool,
    ingest: IngestFixture,
    producer: Option<Service>,
    aggregator: Option<Service>,
    writer: FixtureWriter,
    /// Trades that were written to see rows flow again.
    marks: u64,
    poisoned: bool,
    injected: BTreeMap<SinkFault, u64>,
}

impl SinkUnderLoad {
    /// Starts everything, and waits until trades are published.
    pub(super) async fn start(test: &str, long: bool) -> anyhow::Result<Self> {
        let ingest = IngestFixture::open(&test.replace('_', "-"), "", &[]).await?;
        let sink = SinkFixture::of(&ingest.harness, ingest.topic(), &ingest.averages()).await?;
        let (producer, aggregator) = (ingest.produce()?, Some(ingest.aggregate()?));
        let service = sink.start().await?;
        ingest.wait_until_reconciled(&producer).await?;
        let writer = FixtureWriter::new(&sink.harness.servers, &sink.trades, &sink.averages).await?;
        let (marks, poisoned, injected) = (0, false, BTreeMap::new());
        let producer = Some(producer);
        Ok(Self { sink, service, long, ingest, producer, aggregator, writer, marks, poisoned, injected })
    }

    /// Injects a fault, ends it, and waits until a trade that is written afterwards has its row.
    pub(super) async fn inject(&mut self, fault: SinkFault) -> anyhow::Result<()> {
        let began = Instant::now();
        if let Some(why_not) = fault.inject(self).await? {
            println!("\n!!! {why_not} !!!\n");
            return Ok(());
        }
        let ended = began.elapsed();
        self.mark().await?;
        *self.injected.entry(fault).or_default() += 1;
        println!("{fault:?}: {ended:.1?}, rows flow {:.1?} after its end", began.elapsed() - ended);
        self.restart_fenced_aggregator()
    }

    async fn mark(&mut self) -> anyhow::Result<()> {
        self.marks += 1;
        let sequence = i64::try_from(self.marks)?;
        let mark =
            Trade { instrument_name: "MARK".into(), trade_seq: sequence, ..trade(self.marks, now_millis()) };
        self.writer.trade(&mark)?;
        let has_row = async || {
            let sql = "SELECT count(*) FROM trades WHERE instrument_name = 'MARK' AND trade_seq = $1";
            let rows: i64 = self.sink.database().await?.query_one(sql, &[&sequence]).await?.try_get(0)?;
            Ok(rows == 1)
        };
        eventually(PATIENCE, "a trade has its row", has_row).await
    }

    /// As a supervisor would. Only a fence may end the aggregator: when Kafka becomes unavailable while it joins its group, it may ask twice,
    /// and fence itself.
    fn restart_fenced_aggregator(&mut self) -> anyhow::Result<()> {
        let exit = self.aggregator.as_mut().map(Service::try_exit).transpose()?.flatten();
        let Some(exit) = exit else { return Ok(()) };
        ensure!(exit.is_fenced(), "the aggregator: {exit:?}");
        println!("the aggregator fenced itself and is restarted");
        self.aggregator = Some(self.ingest.aggregate()?);
        Ok(())
    }

    /// Writes one record of each kind that has no row into each topic, and waits until they are dead letters.
    pub(super) async fn poison(&mut self) -> anyhow::Result<()> {
        let registry = Registry::new(&self.sink.harness.servers.registry()?)?;
        for (topic, connector, contract) in [
            (&self.sink.trades, TRADES_CONNECTOR, &TRADE),
            (&self.sink.averages, AVERAGES_CONNECTOR, &MOVING_AVERAGE),
        ] {
            let id = registry.register(topic, contract).await?;
            let truncated = [&[0][..], &id.to_be_bytes(), &[6, b'B']].concat();
            for value in [Some(&b"bytes"[..]), Some(&truncated), Some(&[0, 0, 15, 66, 63, 1]), None] {
                self.writer.raw(topic, value)?;
            }
            for reason in POISON {
                let metric = format!("{DEAD_LETTERS}{{connector=\"{connector}\",reason=\"{reason}\"}}");
                self.service.wait_until_metric(&metric, 1.0).await?;
            }
        }
        self.poisoned = true;
        Ok(())
    }

    /// Stops the load and compares: topics with tables, and tables with the exchange.
    pub(super) async fn finish(&mut self) -> anyhow::Result<()> {
        self.writer.flush()?;
        let producer = self.producer.take().context("it is finished already")?;
        let through = self.ingest.wait_until_reconciled(&producer).await?;
        producer.stop().await?;
        self.restart_fenced_aggregator()?;
        self.aggregator.take().context("it is finished already")?.stop().await?;
        wait_until_decided(&self.sink).await?;
        let report = check_verified(&self.sink.report(&["verify", "--json", "--wait", "90s"]).await?)?;
        let unstorable = self.injected.get(&SinkFault::RecordUnstorable).copied().unwrap_or(0);
        let records = compare(&report, self.poisoned, unstorable)?;
        let rows = exchange_rows::compare(&self.sink, &self.ingest, through).await?;
        self.ingest.close_exchange().await;
        println!("faults injected: {:?}", self.injected);
        println!("{} trades and {} averages compared; lost 0, doubled 0", records[0], records[1]);
        println!("{rows} rows compared with the exchange, each field of each");
        let success = format!("{LAST_VERIFY_SUCCESS}{{table=\"trades\"}}");
        self.service.wait_until_metric(&success, 1.0).await?;
        self.sink.cleanup().await
    }
}

/// Waits until every record has its row or is a dead letter that the service has decided to keep. Good dead letters take a while to be
/// requeued, and `verify` does not wait for that.
async fn wait_until_decided(sink: &SinkFixture) -> anyhow::Result<()> {
    let (servers, client) = (&sink.harness.servers, sink.database().await?);
    for (topic, table, contract) in
        [(&sink.trades, "trades", &TRADE), (&sink.averages, "moving_averages", &MOVING_AVERAGE)]
    {
        let read = DecodedTopic::<IgnoredAny>::new(servers, topic, contract).read_decodable().await?;
        let records = i64::try_from(read.0.len() + read.1.len())?;
        let sql = format!(
            "SELECT (SELECT count(*) FROM {table}) + \
             (SELECT count(*) FROM dead_letters WHERE topic = $1 AND reason <> 'brought_back')"
        );
        let decided = async || {
            let found: i64 = client.query_one(&sql, &[topic]).await?.try_get(0)?;
            ensure!(found == records, "{found} of {records}");
            Ok(true)
        };
        eventually(PATIENCE, &format!("every record of {topic} is decided"), decided).await?;
    }
    Ok(())
}

/// The report of the command `status`.
pub(super) async fn status(sink: &SinkFixture) -> anyhow::Result<Value> {
    Ok(sink.report(&["status", "--json"]).await?.1)
}

/// Returns a report of `verify` that found no difference.
pub(super) fn check_verified((code, report): &(Option<i32>, Value)) -> anyhow::Result<Value> {
    ensure!((*code, &report["match"]) == (Some(0), &Value::Bool(true)), "{report:#}");
    Ok(report.clone())
}

/// Every record of both topics has its row, or is one that was meant to have none. Returns how many have.
fn compare(report: &Value, poisoned: bool, unstorable: u64) -> anyhow::Result<[u64; 2]> {
    let mut averages = json!({});
    for reason in POISON.iter().filter(|_| poisoned) {
        averages[reason] = 1.into();
    }
    let mut trades = averages.clone();
    if unstorable > 0 {
        trades["refused_by_postgres"] = unstorable.into();
    }
    let mut records = [0; 2];
    for (at, undecodable) in [trades, averages].iter().enumerate() {
        let pair = &report["sinks"][at];
        ensure!(pair["records"] == pair["rows"], "{pair:#}");
        ensure!(pair["undecodable"] == *undecodable && pair["missing_dead_letters"] == 0, "{pair:#}");
        records[at] = pair["records"].as_u64().unwrap_or(0);
    }
    Ok(records)
}
