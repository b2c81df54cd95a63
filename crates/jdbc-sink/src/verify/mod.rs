//! The command `verify`: proves that a table holds what its topic holds. Every decodable record has one row, bit for bit, and every other
//! record is in the dead-letter topic.
//!
//! First the topic is read up to its end at the start, then the table. Each side gives a count, a first, a last and a checksum for each
//! instrument. Only where these differ, a second pass finds the rows. The stream may continue meanwhile: the sequence rises with the offset
//! within an instrument, so rows of later records are recognized and skipped.

mod differences;
mod progress;
mod report;
mod summary;
mod table;
mod topic;

use std::time::Duration;

use common::config::{KafkaConfig, SchemaRegistryConfig};
use common::{Failure, backoff};
use tokio::time::Instant;
use tokio_postgres::Client;

use self::differences::find_differences;
use self::progress::note;
use self::report::{SHOWN, SinkReport, UndecodableRecord, VerifyReport};
use self::summary::{Mismatch, Summary};
use self::topic::{LastOffsets, TopicScan, TopicScanner, UndecodableRecords};
use crate::kafka::progress::CommittedOffsets;
use crate::kafka::reader::OffsetRange;
use crate::postgres::connection::Database;
use crate::postgres::errors::{connection_error, sql_message};
use crate::postgres::retention::lock_rows;
use crate::sink::Sink;

/// From one check of the connector's progress to the next.
const WAIT_INTERVAL: Duration = Duration::from_millis(500);

/// Compares each topic with its table. Waits at most `wait` for rows that the connectors have not written yet, and at most
/// `startup_deadline` for the servers.
///
/// # Errors
/// If a comparison failed. A difference is no error; it is in the report.
pub(crate) async fn verify(
    sinks: &[Sink],
    kafka: &KafkaConfig,
    registry: &SchemaRegistryConfig,
    database: &Database,
    startup_deadline: Duration,
    wait: Duration,
) -> Result<VerifyReport, Failure> {
    let what = database.to_string();
    let client = backoff::until_deadline(&what, startup_deadline, async || database.connect().await).await?;
    let mut reports = Vec::new();
    for sink in sinks {
        let comparison = Comparison::begin(sink, kafka, registry, &client, startup_deadline).await?;
        let report = Box::pin(comparison.run(wait)).await?;
        if let Err(error) = store_result(&client, &report).await {
            note(&format!("could not store the result for the metrics: {}", sql_message(&error)));
        }
        reports.push(report);
    }
    Ok(VerifyReport::new(reports))
}

const STORE_RESULT: &str = "INSERT INTO verifications (table_name, finished_at, same, records) VALUES ($1, now(), $2, $3) \
     ON CONFLICT (table_name) DO UPDATE \
     SET finished_at = EXCLUDED.finished_at, same = EXCLUDED.same, records = EXCLUDED.records";

/// The running service shows it in its metrics.
async fn store_result(client: &Client, report: &SinkReport) -> Result<(), tokio_postgres::Error> {
    let records = i64::try_from(report.records).unwrap_or(i64::MAX);
    client.execute(STORE_RESULT, &[&report.table, &report.matches, &records]).await.map(drop)
}

/// The comparison of one sink.
struct Comparison<'a> {
    scanner: TopicScanner,
    committed: CommittedOffsets,
    database: &'a Client,
    ranges: Vec<OffsetRange>,
    summary: Summary,
}

impl<'a> Comparison<'a> {
    async fn begin(
        sink: &Sink,
        kafka: &KafkaConfig,
        registry: &SchemaRegistryConfig,
        database: &'a Client,
        registry_deadline: Duration,
    ) -> Result<Self, Failure> {
        let cutoff = lock_rows(database, sink.table).await.map_err(|error| connection_error(&error))?;
        let rejected = table::rejected_records(database, sink.topic()).await;
        let rejected = rejected.map_err(|error| connection_error(&error))?;
        let scanner = TopicScanner::new(sink, kafka, registry, registry_deadline, rejected, cutoff)?;
        let ranges = scanner.ranges().await?;
        let trimmed = ranges.iter().any(|range| range.from > 0);
        let committed = CommittedOffsets::new(kafka, sink)?;
        Ok(Self { scanner, committed, database, ranges, summary: Summary::new(trimmed) })
    }

    async fn run(mut self, wait: Duration) -> Result<SinkReport, Failure> {
        let TopicScan { undecodable, last_offsets } =
            self.scanner.scan(&self.ranges, &mut self.summary).await?;
        let end = Instant::now() + wait;
        loop {
            // Before the table is read: a row written after that would be missed.
            let written = self.is_written(&last_offsets).await?;
            self.summary.reset_rows();
            table::scan(self.database, &self.scanner, &mut self.summary).await?;
            if self.summary.has_unknown_instruments() {
                let newer = self.scanner.newer_instruments(&self.ranges).await?;
                self.summary.skip_unknown_instruments(&newer);
            }
            let missing = self.scanner.missing_dead_letters(&undecodable).await?;
            let mismatches = self.summary.mismatches();
            let matches = mismatches.is_empty() && missing.is_empty();
            if matches || written || Instant::now() >= end {
                return self.report(undecodable, mismatches, missing).await;
            }
            note(&format!("{} has not written all records yet; waiting", self.scanner.sink.connector));
            while !self.is_written(&last_offsets).await? && Instant::now() < end {
                tokio::time::sleep(WAIT_INTERVAL).await;
            }
        }
    }

    /// Whether the connector has committed every record.
    async fn is_written(&self, last_offsets: &LastOffsets) -> Result<bool, Failure> {
        let uncommitted = self.committed.uncommitted(&self.ranges).await?;
        let is_committed =
            |range: &OffsetRange| last_offsets.get(&range.partition).is_none_or(|last| range.from > *last);
        Ok(uncommitted.iter().all(is_committed))
    }

    async fn report(
        mut self,
        undecodable: UndecodableRecords,
        mut mismatches: Vec<Mismatch>,
        mut missing: Vec<UndecodableRecord>,
    ) -> Result<SinkReport, Failure> {
        let differences =
            Box::pin(find_differences(&mut self.scanner, self.database, &mismatches, &self.ranges)).await?;
        let (mismatched_instruments, missing_dead_letters) = (mismatches.len(), missing.len());
        mismatches.truncate(SHOWN);
        missing.truncate(SHOWN);
        let sink = &self.scanner.sink;
        Ok(SinkReport {
            topic: sink.topic().to_owned(),
            table: sink.table.name,
            matches: mismatched_instruments == 0 && missing_dead_letters == 0,
            offsets: self.ranges,
            instruments: self.summary.instruments(),
            records: self.summary.records(),
            rows: self.summary.rows(),
            skipped: self.summary.skipped(),
            undecodable: undecodable.by_reason,
            first_undecodable: undecodable.first,
            missing_dead_letters,
            first_missing_dead_letters: missing,
            mismatched_instruments,
            first_mismatches: mismatches,
            differences,
        })
    }
}
