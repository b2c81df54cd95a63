//! Passes over a record that Postgres refuses for good, at somebody's bidding: everything before it gets its row, it becomes a dead letter
//! as Kafka Connect would have written it, and the connector goes on behind it.
//!
//! Whatever ends in between, it can be done again: rows are upserts, and two letters of one record are one.

use std::time::Duration;

use common::Failure;
use common::avro::registry::Registry;
use common::config::ServiceConfig as _;
use common::kafka::client::{Role, config};
use rdkafka::Message as _;
use rdkafka::message::{BorrowedMessage, Header, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::decision::Decision;
use super::store;
use crate::Config;
use crate::connect::api::ConnectApi;
use crate::connect::responses::State;
use crate::dead_letters::headers::Origin;
use crate::kafka::failed;
use crate::kafka::progress::Progress;
use crate::kafka::reader::{Range, Reader};
use crate::postgres::connection::Database;
use crate::postgres::errors::{is_refusal, said};
use crate::record::{Record, RowDecoder, Undecodable};
use crate::sink::Pair;

/// How long each server may take for its part.
const WITHIN: Duration = Duration::from_secs(60);

/// Passes over the record at `place`, whose topic is one of ours; the connector runs again afterwards, whatever came of it.
///
/// # Errors
/// If there is no such record, if it is passed already, if a record before it is refused too, or if a server does not answer.
pub async fn pass_over(settings: &Config, place: &Origin) -> Result<(), Failure> {
    let pair = Pair::all(&settings.topics).into_iter().find(|pair| pair.topic == place.topic);
    let pair = pair.ok_or_else(|| refused(format!("no connector of ours reads topic {}", place.topic)))?;
    let connector = pair.connector;
    let api = ConnectApi::new(&settings.connect.url)?;
    let passing = Passing {
        topic: Reader::new(&settings.kafka, &pair.topic)?,
        progress: Progress::new(&settings.kafka, &pair)?,
        pair,
        settings,
        place,
    };
    let record = passing.record().await?;
    api.stop(connector).await?;
    let passed = passing.behind_it(&api, &record).await;
    api.resume(connector).await?;
    passed
}

struct Passing<'a> {
    settings: &'a Config,
    pair: Pair,
    place: &'a Origin,
    topic: Reader,
    progress: Progress,
}

impl Passing<'_> {
    async fn record(&self) -> Result<OwnedMessage, Failure> {
        let Origin { partition, offset, .. } = *self.place;
        let mut found = None;
        let only = Range { partition, from: offset, to: offset.saturating_add(1) };
        let extent = self.topic.extent().await?;
        if extent.iter().any(|all| all.partition == partition && (all.from..all.to).contains(&offset)) {
            let each = async |message: &BorrowedMessage<'_>| {
                found = Some(message.detach());
                Ok(())
            };
            self.topic.read(only, each).await?;
        }
        found.ok_or_else(|| refused("there is no committed record at that place".into()))
    }

    /// While the connector is stopped.
    async fn behind_it(&self, api: &ConnectApi, record: &OwnedMessage) -> Result<(), Failure> {
        let (connector, Origin { partition, offset, topic }) = (self.pair.connector, self.place);
        let end = Instant::now() + WITHIN;
        while api
            .status(connector)
            .await?
            .is_none_or(|status| status.connector.state != State::Stopped || !status.tasks.is_empty())
        {
            if Instant::now() > end {
                return Err(refused(format!("{connector} does not stop")));
            }
            sleep(Duration::from_millis(200)).await;
        }
        let here = Range { partition: *partition, from: 0, to: i64::MAX };
        let committed = self.progress.waiting(&[here]).await?;
        let from = committed.first().map_or(0, |range| range.from);
        if from > *offset {
            return Err(refused(format!("{connector} is behind it already, at {from}")));
        }
        let first = self
            .topic
            .extent()
            .await?
            .iter()
            .find(|all| all.partition == *partition)
            .map_or(0, |all| all.from);
        let client = Database::new(&self.settings.postgres)?.connect().await?;
        let mut decoder = RowDecoder::new(&self.pair, Registry::new(&self.settings.schema_registry)?);
        let before = Range { partition: *partition, from: from.max(first), to: *offset };
        self.write_rows(&client, (&mut decoder, before)).await?;
        let judged = decoder.decode_within(record.payload(), WITHIN).await?;
        self.write_decision(client, judged).await?;
        self.write_letter(record).await?;
        Ok(api.move_to(connector, (topic, *partition, offset.saturating_add(1))).await?)
    }

    /// What Connect would leave out if only its offset were moved.
    async fn write_rows(
        &self,
        client: &Client,
        (decoder, before): (&mut RowDecoder, Range),
    ) -> Result<(), Failure> {
        let upsert = client.prepare(&self.pair.table.upsert()).await.map_err(|error| lost(&error))?;
        let each = async |message: &BorrowedMessage<'_>| {
            // What cannot be decoded is a dead letter already: it was converted, or not, before anything of its batch was written.
            let Ok(record) = decoder.decode_within(message.payload(), WITHIN).await? else { return Ok(()) };
            let row = record.row();
            let cells: Vec<&(dyn ToSql + Sync)> = row.cells.iter().map(|cell| cell as _).collect();
            client.execute(&upsert, &cells).await.map(drop).map_err(|error| {
                refused(format!("the record before it, at offset {}: {}", message.offset(), said(&error)))
            })
        };
        self.topic.read(before, each).await
    }

    /// As the letter will be judged when it is read; what Postgres takes is not passed over.
    async fn write_decision(
        &self,
        mut client: Client,
        judged: Result<Record, Undecodable>,
    ) -> Result<(), Failure> {
        let place = self.place.clone();
        let mut decision = Decision::of(place.clone(), (Some(place), &self.pair.topic), judged);
        if decision.record.is_some() {
            let attempt =
                store::write(&mut client, &self.pair, (std::slice::from_ref(&decision), None)).await;
            decision = match attempt {
                Ok(()) => return Err(refused("postgres takes it: it has its row now".into())),
                Err(error) if is_refusal(&error) => decision.refused(said(&error)),
                Err(error) => return Err(lost(&error)),
            };
        }
        let written = store::write(&mut client, &self.pair, (&[decision], None)).await;
        written.map_err(|error| lost(&error))
    }

    async fn write_letter(&self, record: &OwnedMessage) -> Result<(), Failure> {
        let (partition, offset) = (self.place.partition.to_string(), self.place.offset.to_string());
        let headers = [
            ("__connect.errors.topic", self.place.topic.as_str()),
            ("__connect.errors.partition", &partition),
            ("__connect.errors.offset", &offset),
            ("__connect.errors.connector.name", self.pair.connector),
            ("__connect.errors.exception.message", "postgres refuses it; passed over by hand"),
        ];
        let all = headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| {
            all.insert(Header { key, value: Some(value.as_bytes()) })
        });
        let producer: FutureProducer = config(&self.settings.kafka, Config::SERVICE.name(), &Role::Producer)
            .create()
            .map_err(|error| failed("its settings", error))?;
        let name = self.pair.dead_letters();
        let mut letter = FutureRecord::<[u8], [u8]>::to(&name).headers(all);
        (letter.key, letter.payload) = (record.key(), record.payload());
        letter.timestamp = record.timestamp().to_millis();
        match timeout(WITHIN, producer.send(letter, WITHIN)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err((error, _))) => Err(failed("writing the dead letter", error)),
            Err(_) => Err(failed("writing the dead letter", format!("no answer within {WITHIN:?}"))),
        }
    }
}

fn lost(error: &tokio_postgres::Error) -> Failure {
    refused(format!("postgres: {}", said(error)))
}

fn refused(why: String) -> Failure {
    Failure::Other(anyhow::anyhow!(why))
}
