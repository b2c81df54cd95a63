//! The proof that a table holds what its topic holds: every decodable record once, every number bit for bit, and every other record in
//! the dead-letter topic.
//!
//! The topic is read up to where it ended at the start, then the table; of each instrument both sides give a count, a first, a last and
//! a checksum. Only where these differ a second look says which rows. While the stream runs, rows of later records are told by their
//! sequence, which rises with the offset within an instrument, and left out.

mod differences;
mod progress;
mod ranges;
pub mod report;
pub mod summary;
mod topic;

use std::collections::HashMap;
use std::time::Duration;

use common::avro::registry::Registry;
use common::{Failure, backoff};
use tokio::time::Instant;
use tokio_postgres::Client;

use self::progress::say;
use self::report::{PairReport, Report, SHOWN, Unreadable};
use self::summary::{Mismatch, Tally};
use self::topic::{Topic, Undecodable, lost, read_table, refused};
use crate::Config;
use crate::kafka::progress::Progress;
use crate::kafka::reader::{Range, Reader};
use crate::postgres::connection::Database;
use crate::postgres::errors::said;
use crate::postgres::retention::hold;
use crate::record::RowDecoder;
use crate::sink::Pair;

/// Compares each topic with its table; rows that the connector has not brought yet are waited for, at most for `wait`.
///
/// # Errors
/// If a comparison could not be made; that something differs is no error but in the report.
pub async fn verify(config: &Config, wait: Duration) -> Result<Report, Failure> {
    let database = Database::new(&config.postgres)?;
    let what = format!("postgres at {}", database.url().address());
    let client =
        backoff::until_deadline(&what, *config.startup_deadline, async || database.connect().await).await?;
    let mut pairs = Vec::new();
    for pair in Pair::all(&config.topics) {
        let found = Box::pin(Verification::begin(config, &pair, &client).await?.run(wait)).await?;
        if let Err(error) = remember(&client, &found).await {
            say(&format!("the result could not be kept for the metrics: {}", said(&error)));
        }
        pairs.push(found);
    }
    Ok(Report::of(pairs))
}

const REMEMBER: &str = "INSERT INTO verifications (table_name, finished_at, same, records) VALUES ($1, now(), $2, $3) \
     ON CONFLICT (table_name) DO UPDATE \
     SET finished_at = EXCLUDED.finished_at, same = EXCLUDED.same, records = EXCLUDED.records";

/// For the running service's metrics.
async fn remember(client: &Client, found: &PairReport) -> Result<(), tokio_postgres::Error> {
    let records = i64::try_from(found.records).unwrap_or(i64::MAX);
    client.execute(REMEMBER, &[&found.table, &found.same, &records]).await.map(drop)
}

struct Verification<'a> {
    topic: Topic,
    progress: Progress,
    database: &'a Client,
    extent: Vec<Range>,
    tally: Tally,
}

/// What the connector has to bring: each partition's last offset with a record.
type Due = HashMap<i32, i64>;

impl<'a> Verification<'a> {
    async fn begin(config: &Config, pair: &Pair, database: &'a Client) -> Result<Self, Failure> {
        let cutoff = hold(database, pair.table).await.map_err(|error| lost(&error))?;
        let reader = Reader::new(&config.kafka, &pair.topic)?;
        let extent = reader.extent().await?;
        let trimmed = extent.iter().any(|range| range.from > 0);
        let topic = Topic {
            reader,
            letters: Reader::new(&config.kafka, &pair.dead_letters())?,
            decoder: RowDecoder::new(pair, Registry::new(&config.schema_registry)?),
            deadline: *config.startup_deadline,
            pair: pair.clone(),
            refused: refused(database, &pair.topic).await?,
            cutoff,
        };
        let progress = Progress::new(&config.kafka, pair)?;
        Ok(Self { topic, progress, database, extent, tally: Tally::new(trimmed) })
    }

    async fn run(mut self, wait: Duration) -> Result<PairReport, Failure> {
        let (undecodable, due) = self.topic.read(&self.extent, &mut self.tally).await?;
        let end = Instant::now() + wait;
        loop {
            // Before the table is looked at: what is brought behind that look would be missed.
            let brought = self.is_brought(&due).await?;
            self.tally.forget_rows();
            read_table(self.database, &self.topic, &mut self.tally).await?;
            if self.tally.has_strangers() {
                self.tally.excuse(&self.topic.newer(&self.extent).await?);
            }
            let without_letter = self.topic.without_letter(&undecodable).await?;
            let mismatches = self.tally.mismatches();
            let same = mismatches.is_empty() && without_letter.is_empty();
            if same || brought || Instant::now() >= end {
                return self.report(undecodable, mismatches, without_letter).await;
            }
            say(&format!("{} has not brought everything yet, waiting", self.topic.pair.connector));
            while !self.is_brought(&due).await? && Instant::now() < end {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }

    async fn is_brought(&self, due: &Due) -> Result<bool, Failure> {
        let waiting = self.progress.waiting(&self.extent).await?;
        Ok(waiting.iter().all(|range| due.get(&range.partition).is_none_or(|last| range.from > *last)))
    }

    async fn report(
        mut self,
        undecodable: Undecodable,
        mut mismatches: Vec<Mismatch>,
        mut without_letter: Vec<Unreadable>,
    ) -> Result<PairReport, Failure> {
        let differences =
            Box::pin(differences::differences(&mut self.topic, self.database, (&mismatches, &self.extent)))
                .await?;
        let (instruments_that_differ, lost) = (mismatches.len(), without_letter.len());
        mismatches.truncate(SHOWN);
        without_letter.truncate(SHOWN);
        let (records, rows) = self.tally.totals();
        Ok(PairReport {
            topic: self.topic.pair.topic.clone(),
            table: self.topic.pair.table.name,
            same: instruments_that_differ == 0 && lost == 0,
            offsets: self.extent,
            instruments: self.tally.instruments(),
            records,
            rows,
            left_out: self.tally.left_out(),
            undecodable: undecodable.by_reason,
            first_undecodable: undecodable.first,
            without_dead_letter: u64::try_from(lost).unwrap_or(u64::MAX),
            first_without_dead_letter: without_letter,
            instruments_that_differ,
            first_that_differ: mismatches,
            differences,
        })
    }
}
