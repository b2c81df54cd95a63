//! How far a connector is: what its group has committed, against what is there.

use std::sync::Arc;
use std::time::Duration;

use common::Failure;
use common::config::{KafkaConfig, ServiceConfig as _};
use common::kafka::client::{Role, config};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde::Serialize;

use super::reader::{Range, Reader};
use super::{blocking, failed};
use crate::Config;
use crate::sink::Pair;

const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What waits for a connector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Lag {
    /// Records that it has not committed; markers of transactions between them count, those behind the last do not.
    pub records: i64,
    /// How long ago the oldest of them was traded or, of averages, its window ended; 0 without any.
    pub seconds: i64,
}

/// What a connector's group has committed.
pub struct Progress {
    consumer: Arc<BaseConsumer>,
    topic: String,
}

impl Progress {
    /// Asks nothing yet.
    ///
    /// # Errors
    /// If the configuration is not librdkafka's.
    pub fn new(kafka: &KafkaConfig, pair: &Pair) -> Result<Self, Failure> {
        let role = Role::GroupObserver { group_id: pair.group() };
        let consumer = config(kafka, Config::SERVICE.name(), &role).create();
        let consumer: BaseConsumer = consumer.map_err(|error| failed("its settings", error))?;
        Ok(Self { consumer: Arc::new(consumer), topic: pair.topic.clone() })
    }

    /// What of `extent` the group has not committed, in each partition.
    ///
    /// # Errors
    /// If Kafka does not answer.
    pub async fn waiting(&self, extent: &[Range]) -> Result<Vec<Range>, Failure> {
        let (consumer, mut asked) = (Arc::clone(&self.consumer), TopicPartitionList::new());
        for range in extent {
            asked.add_partition(&self.topic, range.partition);
        }
        let answered = blocking(move || {
            let answered = consumer.committed_offsets(asked, ANSWER_WITHIN);
            answered.map_err(|error| failed("the connector's committed offsets", error))
        })
        .await?;
        let waiting = |range: &Range| {
            let element = answered.find_partition(&self.topic, range.partition);
            Range { from: first_waiting(*range, element.map(|element| element.offset())), ..*range }
        };
        Ok(extent.iter().map(waiting).collect())
    }
}

/// Records that are gone cannot wait, and without a commit all do.
fn first_waiting(range: Range, committed: Option<Offset>) -> i64 {
    match committed {
        Some(Offset::Offset(next)) => next.max(range.from),
        _ => range.from,
    }
}

/// The lag of a pair's connector at `now`, in milliseconds since 1970.
///
/// # Errors
/// If Kafka does not answer.
pub async fn lag(reader: &Reader, progress: &Progress, now: i64) -> Result<Lag, Failure> {
    let mut lag = Lag::default();
    for waiting in progress.waiting(&reader.extent().await?).await? {
        if let Some(oldest) = reader.first(waiting).await? {
            lag.records += waiting.to - waiting.from;
            lag.seconds = lag.seconds.max((now - oldest) / 1000);
        }
    }
    Ok(lag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_begins_at_the_commit_but_never_before_what_is_still_there() {
        let range = Range { partition: 0, from: 10, to: 20 };
        for (committed, expected) in [
            (Some(Offset::Offset(15)), 15),
            (Some(Offset::Offset(3)), 10),
            (Some(Offset::Invalid), 10),
            (None, 10),
        ] {
            assert_eq!(first_waiting(range, committed), expected, "{committed:?}");
        }
    }
}
