//! Reads a pair's dead letters as they come, and decides each.

use std::time::Duration;

use common::Failure;
use common::avro::registry::Registry;
use rdkafka::Message as _;
use tokio_postgres::{Client, Error};

use super::decision::{BROUGHT_BACK, Decision};
use super::store::{self, Position};
use crate::Config;
use crate::kafka::letter::Origin;
use crate::kafka::progress::{Progress, lag};
use crate::kafka::reader::{Range, Reader};
use crate::metrics::SinkMetrics;
use crate::pair::{Pair, RowDecoder};
use crate::postgres::session::Database;
use crate::status::now;

/// So many letters share a transaction: a registry that is away sends whole topics here. Connect's producer leaves no gaps, so that
/// offsets count letters.
const BATCH: i64 = 500;
/// How long one letter waits for the registry before all of them do.
const REGISTRY_WITHIN: Duration = Duration::from_secs(5);

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
        let pair = self.pair.clone();
        let counts = store::counts(self.client().await?, &pair).await.map_err(|error| self.lost(&error))?;
        self.metrics.dead_letters(pair.connector, &counts);
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
        let written = store::write(self.client().await?, &pair, (&decisions, &end)).await;
        match written {
            Ok(()) => decisions.iter().for_each(|decision| tell(&pair, decision)),
            Err(error) if is_refusal(&error) => {
                // Not before the last is written is any of them passed over.
                let begin = Position { partition, next: of.from };
                for decision in decisions {
                    self.write_one(decision, &begin).await?;
                }
                let written = store::write(self.client().await?, &pair, (&[], &end)).await;
                written.map_err(|error| self.lost(&error))?;
            }
            Err(error) => return Err(self.lost(&error)),
        }
        Ok(())
    }

    async fn write_one(&mut self, mut decision: Decision, position: &Position) -> Result<(), Failure> {
        let pair = self.pair.clone();
        let one = std::slice::from_ref(&decision);
        match store::write(self.client().await?, &pair, (one, position)).await {
            Ok(()) => {}
            Err(error) if is_refusal(&error) && decision.record.is_some() => {
                decision = decision.refused(said(&error));
                let one = std::slice::from_ref(&decision);
                let written = store::write(self.client().await?, &pair, (one, position)).await;
                written.map_err(|error| self.lost(&error))?;
            }
            Err(error) => return Err(self.lost(&error)),
        }
        tell(&pair, &decision);
        Ok(())
    }

    /// The next look connects anew.
    fn lost(&mut self, error: &Error) -> Failure {
        self.client = None;
        Failure::Other(anyhow::anyhow!("postgres at {}: {}", self.database.url().address(), said(error)))
    }
}

/// The values are not to Postgres's liking, whenever they come.
fn is_refusal(error: &Error) -> bool {
    error.code().is_some_and(|code| ["22", "23"].contains(&code.code().get(..2).unwrap_or_default()))
}

fn said(error: &Error) -> String {
    let Some(said) = error.as_db_error() else { return error.to_string() };
    match said.column() {
        Some(column) => format!("{said}, column {column}"),
        None => said.to_string(),
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
