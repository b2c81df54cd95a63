//! Reads a pair's dead letters as they come, and decides each.

use std::time::{Duration, Instant};

use common::Failure;
use common::avro::registry::Registry;
use rdkafka::Message as _;
use tokio_postgres::{Client, Error};

use super::decision::{BROUGHT_BACK, Decision};
use super::store::{self, Position};
use crate::Config;
use crate::dead_letters::headers::Origin;
use crate::kafka::progress::{Progress, lag};
use crate::kafka::reader::{Range, Reader};
use crate::metrics::SinkMetrics;
use crate::monitor::status::now;
use crate::postgres::connection::Database;
use crate::postgres::errors::{column, is_refusal, said};
use crate::record::RowDecoder;
use crate::sink::Pair;

/// So many letters share a transaction: a registry that is away sends whole topics here. Connect's producer leaves no gaps, so that
/// offsets count letters.
const BATCH: i64 = 500;
/// How long one letter waits for the registry before all of them do.
const REGISTRY_WITHIN: Duration = Duration::from_secs(5);

/// How often letters that may be good another time are judged again.
const AGAIN: Duration = Duration::from_secs(30);

/// Where the dead letters of one pair are decided.
pub struct Desk {
    pair: Pair,
    topic: Reader,
    letters: Reader,
    progress: Progress,
    decoder: RowDecoder,
    database: Database,
    client: Option<Client>,
    metrics: SinkMetrics,
    /// When letters were last judged again.
    judged_again: Option<Instant>,
    /// Why nothing could be decided at the last look.
    trouble: Option<String>,
}

impl Desk {
    /// A desk that has seen no letter yet.
    ///
    /// # Errors
    /// If the configuration is not librdkafka's, or a password's file cannot be read.
    pub fn new(config: &Config, pair: Pair, metrics: SinkMetrics) -> Result<Self, Failure> {
        Ok(Self {
            topic: Reader::new(&config.kafka, &pair.topic)?,
            letters: Reader::new(&config.kafka, &pair.dead_letters())?,
            progress: Progress::new(&config.kafka, &pair)?,
            decoder: RowDecoder::new(&pair, Registry::new(&config.schema_registry)?),
            database: Database::new(&config.postgres)?,
            client: None,
            metrics,
            judged_again: None,
            trouble: None,
            pair,
        })
    }

    /// Decides until it is dropped, which it may be at any time: a transaction that was not committed is none.
    pub async fn run(&mut self, interval: Duration) {
        loop {
            let looked = self.look().await;
            self.tell(looked.err().map(|failure| failure.to_string()));
            tokio::time::sleep(interval).await;
        }
    }

    fn tell(&mut self, trouble: Option<String>) {
        let connector = self.pair.connector;
        match (&self.trouble, &trouble) {
            (None, Some(error)) => {
                tracing::warn!(connector, error, "lag and dead letters cannot be seen to; they wait");
            }
            (Some(_), None) => tracing::info!(connector, "lag and dead letters are seen to again"),
            _ => {}
        }
        self.trouble = trouble;
    }

    /// Decides what has come since the last look.
    async fn look(&mut self) -> Result<(), Failure> {
        let lag = lag(&self.topic, &self.progress, now()).await?;
        self.metrics.lag(self.pair.connector, lag);
        let name = self.pair.dead_letters();
        let done = store::positions(self.client().await?, &name).await.map_err(|error| self.lost(&error))?;
        for range in self.letters.extent().await? {
            let from = done.get(&range.partition).map_or(range.from, |next| range.from.max(*next));
            self.decide(Range { from, ..range }).await?;
        }
        if self.judged_again.is_none_or(|at| at.elapsed() >= AGAIN) {
            self.judge_again().await?;
            self.judged_again = Some(Instant::now());
        }
        self.show().await
    }

    async fn show(&mut self) -> Result<(), Failure> {
        let pair = self.pair.clone();
        let counts = store::counts(self.client().await?, &pair).await.map_err(|error| self.lost(&error))?;
        self.metrics.dead_letters(pair.connector, &counts);
        let verified = store::verified(self.client().await?, &pair).await;
        if let Some(verified) = verified.map_err(|error| self.lost(&error))? {
            self.metrics.verified(pair.table.name, verified);
        }
        Ok(())
    }

    /// A registry that had lost a schema, or got it late, may know it now, and a table may be mended: the records are read where they
    /// came from.
    async fn judge_again(&mut self) -> Result<(), Failure> {
        let pair = self.pair.clone();
        let undecided = store::undecided(self.client().await?, &pair, BATCH).await;
        for origin in undecided.map_err(|error| self.lost(&error))? {
            let range = Range { partition: origin.partition, from: origin.offset, to: origin.offset + 1 };
            let (decoder, mut decision) = (&mut self.decoder, None);
            let judge = async |record: &rdkafka::message::BorrowedMessage<'_>| {
                let value = decoder.decode_within(record.payload(), REGISTRY_WITHIN).await?;
                decision = Some(Decision::of(origin.clone(), (Some(origin.clone()), &pair.topic), value));
                Ok(())
            };
            self.topic.read(range, judge).await?;
            if let Some(decision) = decision {
                self.write_one(decision, None).await?;
            }
        }
        Ok(())
    }

    async fn client(&mut self) -> Result<&mut Client, Failure> {
        let client = match self.client.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => self.database.connect().await?,
        };
        Ok(self.client.insert(client))
    }

    /// Letters by letters, a batch at a time.
    async fn decide(&mut self, mut range: Range) -> Result<(), Failure> {
        while range.from < range.to {
            let batch = Range { to: range.to.min(range.from.saturating_add(BATCH)), ..range };
            let decisions = self.judge(batch).await?;
            self.write(decisions, batch).await?;
            range.from = batch.to;
        }
        Ok(())
    }

    async fn judge(&mut self, range: Range) -> Result<Vec<Decision>, Failure> {
        let (decoder, expected) = (&mut self.decoder, self.pair.topic.as_str());
        let mut decisions = Vec::new();
        let judge = async |letter: &rdkafka::message::BorrowedMessage<'_>| {
            let (topic, partition, offset) = (letter.topic().to_owned(), letter.partition(), letter.offset());
            let own = Origin { topic, partition, offset };
            let value = decoder.decode_within(letter.payload(), REGISTRY_WITHIN).await?;
            decisions.push(Decision::of(own, (Origin::of(letter), expected), value));
            Ok(())
        };
        self.letters.read(range, judge).await?;
        Ok(decisions)
    }

    /// Together if Postgres takes them all; if it refuses one, each by itself.
    async fn write(&mut self, decisions: Vec<Decision>, of: Range) -> Result<(), Failure> {
        let (pair, partition) = (self.pair.clone(), of.partition);
        let end = Position { partition, next: of.to };
        let written = store::write(self.client().await?, &pair, (&decisions, Some(&end))).await;
        match written {
            Ok(()) => decisions.iter().for_each(|decision| tell(&pair, decision)),
            Err(error) if is_refusal(&error) => {
                // Not before the last is written is any of them passed over.
                let begin = Position { partition, next: of.from };
                for decision in decisions {
                    self.write_one(decision, Some(&begin)).await?;
                }
                let written = store::write(self.client().await?, &pair, (&[], Some(&end))).await;
                written.map_err(|error| self.lost(&error))?;
            }
            Err(error) => return Err(self.lost(&error)),
        }
        Ok(())
    }

    async fn write_one(
        &mut self,
        mut decision: Decision,
        position: Option<&Position>,
    ) -> Result<(), Failure> {
        let pair = self.pair.clone();
        let one = std::slice::from_ref(&decision);
        match store::write(self.client().await?, &pair, (one, position)).await {
            Ok(()) => {}
            Err(error) if is_refusal(&error) && decision.record.is_some() => {
                let detail = match column(&error, pair.table.columns) {
                    Some(column) => format!("{}, column {column}", said(&error)),
                    None => said(&error),
                };
                decision = decision.refused(detail);
                let one = std::slice::from_ref(&decision);
                let written = store::write(self.client().await?, &pair, (one, position)).await;
                written.map_err(|error| self.lost(&error))?;
            }
            Err(error) => return Err(self.lost(&error)),
        }
        // One that is judged again was told of when it came.
        if position.is_some() || decision.reason == BROUGHT_BACK {
            tell(&pair, &decision);
        }
        Ok(())
    }

    /// The next look connects anew.
    fn lost(&mut self, error: &Error) -> Failure {
        self.client = None;
        Failure::Other(anyhow::anyhow!("postgres at {}: {}", self.database.url().address(), said(error)))
    }
}

fn tell(pair: &Pair, decision: &Decision) {
    let (connector, Decision { origin, reason, detail, .. }) = (pair.connector, decision);
    let Origin { topic, partition, offset } = origin;
    if *reason == BROUGHT_BACK {
        tracing::info!(connector, topic, partition, offset, "dead letter brought back: it is good");
    } else {
        tracing::error!(connector, topic, partition, offset, reason, detail, "dead letter stays");
    }
}
