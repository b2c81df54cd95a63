//! The progress of a connector: its committed offsets against what its topic holds.

use std::sync::Arc;
use std::time::Duration;

use common::Failure;
use common::config::{KafkaConfig, Service};
use common::kafka::client::{Role, config};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde::Serialize;

use super::reader::{OffsetRange, RangeReader};
use super::{kafka_error, run_blocking};
use crate::sink::Sink;

const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The lag of a connector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Lag {
    /// Offsets that the connector has not committed, with the transaction markers between records; a partition without a record left
    /// counts 0.
    pub(crate) records: i64,
    /// The age of the oldest of these records; 0 without any. Its time is the trade's, or the end of the window.
    pub(crate) seconds: i64,
}

/// Observes the committed offsets of a connector's group.
pub(crate) struct CommittedOffsets {
    consumer: Arc<BaseConsumer>,
    topic: String,
}

impl CommittedOffsets {
    /// Sends no request yet.
    pub(crate) fn new(kafka: &KafkaConfig, sink: &Sink) -> Result<Self, Failure> {
        let role = Role::GroupObserver { group_id: sink.consumer_group() };
        let consumer = config(kafka, Service::JdbcSink.name(), &role).create();
        let consumer: BaseConsumer = consumer.map_err(|error| kafka_error("client settings", error))?;
        Ok(Self { consumer: Arc::new(consumer), topic: sink.topic().to_owned() })
    }

    /// The part of each range that the group has not committed.
    pub(crate) async fn uncommitted(&self, ranges: &[OffsetRange]) -> Result<Vec<OffsetRange>, Failure> {
        let (consumer, mut partitions) = (Arc::clone(&self.consumer), TopicPartitionList::new());
        for range in ranges {
            partitions.add_partition(&self.topic, range.partition);
        }
        let committed = run_blocking(move || {
            let committed = consumer.committed_offsets(partitions, RESPONSE_TIMEOUT);
            committed.map_err(|error| kafka_error("the connector's committed offsets", error))
        })
        .await?;
        let uncommitted = |range: &OffsetRange| {
            let element = committed.find_partition(&self.topic, range.partition);
            OffsetRange { from: first_uncommitted(*range, element.map(|element| element.offset())), ..*range }
        };
        Ok(ranges.iter().map(uncommitted).collect())
    }
}

/// Not before the range: deleted records cannot be pending. Without a commit, the whole range is.
fn first_uncommitted(range: OffsetRange, committed: Option<Offset>) -> i64 {
    match committed {
        Some(Offset::Offset(next)) => next.max(range.from),
        _ => range.from,
    }
}

/// The lag at `now`, in milliseconds since 1970.
pub(crate) async fn lag(
    reader: &RangeReader,
    committed: &CommittedOffsets,
    now: i64,
) -> Result<Lag, Failure> {
    let mut lag = Lag::default();
    for range in committed.uncommitted(&reader.ranges().await?).await? {
        if let Some(oldest) = reader.first_timestamp(range).await? {
            lag.records += range.to - range.from;
            lag.seconds = lag.seconds.max((now - oldest) / 1000);
        }
    }
    Ok(lag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uncommitted_offsets_begin_at_the_commit_but_not_before_the_range() {
        let range = OffsetRange { partition: 0, from: 10, to: 20 };
        for (committed, expected) in [
            (Some(Offset::Offset(15)), 15),
            (Some(Offset::Offset(3)), 10),
            (Some(Offset::Invalid), 10),
            (None, 10),
        ] {
            assert_eq!(first_uncommitted(range, committed), expected, "{committed:?}");
        }
    }
}
