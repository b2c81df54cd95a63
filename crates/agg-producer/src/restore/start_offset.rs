//! Where a partition begins of which nothing is committed: at its first record, if nothing of it was ever published.
//!
//! Nothing committed over published windows means that the group's offsets have expired or been deleted. To begin anew there would
//! publish the windows a second time.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant, SystemTime};

use common::config::{KafkaConfig, ServiceConfig as _, TopicsConfig};
use common::kafka::client::{self, Role};
use common::model::EventTime;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::topic_partition_list::TopicPartitionListElem;

use crate::Config;
use crate::group::rebalance::Rebalances;
use crate::records::encode::GROUP;
use crate::store::aggregator::Offset;
use crate::window::time_windows::TimeWindows;

/// How long one question may take; what has no answer by then is asked again.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// What is about to be deleted is not worth publishing: so much before the outputs forget, or a window's length if that is more, as
/// candles must outlast the windows that need them.
const MARGIN: Duration = Duration::from_secs(24 * 3600);

/// What has been published where nothing is committed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExistingOutput {
    /// By this group.
    #[error(
        "{topic} holds candles of this group there: its offsets have expired or been deleted, and windows would be published a second time"
    )]
    ByThisGroup {
        /// Where.
        topic: String,
    },
    /// By another.
    #[error(
        "{topic} holds candles of group {group} there: each group needs topics of its own for candles, averages and late trades"
    )]
    ByGroup {
        /// Where.
        topic: String,
        /// Whose.
        group: String,
    },
    /// By whomever.
    #[error(
        "{topic} holds records there: of this group, whose offsets have expired or been deleted, or of another; each group needs topics \
         of its own for candles, averages and late trades"
    )]
    ByUnknownGroup {
        /// Where.
        topic: String,
    },
}

/// Where to begin, and what not to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartOffset {
    /// The first record to read.
    pub from: Offset,
    /// Windows that end at or before this began before that record.
    pub not_before: Option<EventTime>,
}

/// Finds beginnings.
#[derive(Debug, Clone)]
pub struct StartOffsetFinder {
    kafka: KafkaConfig,
    topics: TopicsConfig,
    group_id: String,
    windows: TimeWindows,
}

impl StartOffsetFinder {
    /// For the group of `config`.
    #[must_use]
    pub fn new(config: &Config, windows: TimeWindows) -> Self {
        let Config { kafka, topics, group_id, .. } = config.clone();
        Self { kafka, topics, group_id, windows }
    }

    /// Means to see what has been published: two clients, for as long as it is needed, which is seldom.
    ///
    /// # Errors
    /// librdkafka's.
    pub fn lookout(&self) -> KafkaResult<RetentionBoundary<'_>> {
        let client = |role| client::config(&self.kafka, Config::SERVICE.name(), &role).create();
        Ok(RetentionBoundary {
            origin: self,
            reader: client(Role::Reader)?,
            uncommitted: client(Role::UncommittedReader)?,
        })
    }

    /// The first record whose windows the outputs still keep, of those that are `readable`. Blocks.
    ///
    /// # Errors
    /// If Kafka does not tell.
    pub fn beginning(
        &self,
        consumer: &BaseConsumer<Rebalances>,
        partition: i32,
        readable: &RangeInclusive<Offset>,
    ) -> KafkaResult<StartOffset> {
        let (first, end) = (*readable.start(), *readable.end());
        let since = oldest_to_publish(*self.topics.retention, self.windows.lifetime(), SystemTime::now());
        if since <= 0 {
            return Ok(StartOffset { from: first, not_before: None });
        }
        let mut asked = TopicPartitionList::new();
        asked.add_partition_offset(&self.topics.trades, partition, rdkafka::Offset::Offset(since))?;
        let answer = consumer.offsets_for_times(asked, ANSWER_WITHIN)?;
        let element = answer.elements().into_iter().next();
        let from = match element.map(|element| element.error().map(|()| element.offset())).transpose()? {
            Some(rdkafka::Offset::Offset(offset)) => Offset(offset),
            // All are older.
            _ => end,
        };
        Ok(if from > first {
            StartOffset { from, not_before: Some(last_end_begun_before(&self.windows, since)) }
        } else {
            StartOffset { from: first, not_before: None }
        })
    }
}

/// Sees what has been published.
pub struct RetentionBoundary<'o> {
    origin: &'o StartOffsetFinder,
    reader: BaseConsumer,
    uncommitted: BaseConsumer,
}

impl RetentionBoundary<'_> {
    /// What has been published of a partition, if anything. Blocks.
    ///
    /// # Errors
    /// If Kafka does not tell; also while another's transaction is open there, since what it will hold cannot be seen.
    pub fn published(&self, partition: i32) -> KafkaResult<Option<ExistingOutput>> {
        let StartOffsetFinder {
            topics: TopicsConfig { candles, moving_averages, late, .. }, group_id, ..
        } = self.origin;
        for topic in [candles, moving_averages, late] {
            let (first, end) = self.uncommitted.fetch_watermarks(topic, partition, ANSWER_WITHIN)?;
            let Some(record) = first_record(&self.reader, topic, partition, first..=end)? else { continue };
            let (topic, group) = (topic.clone(), group_of(&record));
            return Ok(Some(match group {
                Some(group) if group == *group_id => ExistingOutput::ByThisGroup { topic },
                Some(group) => ExistingOutput::ByGroup { topic, group },
                None => ExistingOutput::ByUnknownGroup { topic },
            }));
        }
        Ok(None)
    }
}

/// The end of the last window that begins before an instant.
fn last_end_begun_before(windows: &TimeWindows, instant: EventTime) -> EventTime {
    windows.slice(windows.slice_at(instant.saturating_add(windows.size()).saturating_sub(1))).start
}

/// In milliseconds since the epoch; before the epoch where everything is young enough.
fn oldest_to_publish(retention: Duration, window: Duration, now: SystemTime) -> EventTime {
    let kept = retention.saturating_sub(MARGIN.min(retention / 2).max(window));
    let oldest = now.checked_sub(kept).and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    oldest.and_then(|at| i64::try_from(at.as_millis()).ok()).unwrap_or(0)
}

/// The first committed record of a partition, which has been written up to the end of `written`.
fn first_record<'c>(
    reader: &'c BaseConsumer,
    topic: &str,
    partition: i32,
    written: RangeInclusive<i64>,
) -> KafkaResult<Option<BorrowedMessage<'c>>> {
    if written.start() == written.end() {
        return Ok(None);
    }
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, partition, rdkafka::Offset::Offset(*written.start()))?;
    reader.assign(&from)?;
    let until = Instant::now() + ANSWER_WITHIN;
    while Instant::now() < until {
        if let Some(record) = reader.poll(Duration::from_millis(10)) {
            return record.map(Some);
        }
        // Markers and aborted records take offsets too.
        let position = reader.position()?.elements().first().map(TopicPartitionListElem::offset);
        if matches!(position, Some(rdkafka::Offset::Offset(offset)) if offset >= *written.end()) {
            return Ok(None);
        }
    }
    Err(KafkaError::Global(RDKafkaErrorCode::OperationTimedOut))
}

fn group_of(record: &BorrowedMessage<'_>) -> Option<String> {
    let header = record.headers()?.iter().find(|header| header.key == GROUP)?;
    Some(String::from_utf8_lossy(header.value?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn an_empty_group_begins_a_day_before_the_outputs_forget() {
        let now = SystemTime::UNIX_EPOCH + DAY * 100;
        let days = |days: i64| days * 24 * 3_600_000;
        let hour = DAY / 24;
        assert_eq!(oldest_to_publish(DAY * 30, hour, now), days(71));
        assert_eq!(oldest_to_publish(DAY, hour, now), days(100) - days(1) / 2, "short retention: half of it");
        assert_eq!(oldest_to_publish(DAY * 30, DAY * 7, now), days(77), "a long window: its length");
        assert_eq!(oldest_to_publish(DAY * 1000, hour, now), 0);
        assert_eq!(oldest_to_publish(Duration::MAX, hour, now), 0);
    }

    #[test]
    fn no_window_is_published_that_began_before_the_first_record() {
        let second = Duration::from_secs(1);
        let windows = TimeWindows::new(second * 300, second * 10, second * 2).unwrap();
        assert_eq!(last_end_begun_before(&windows, 1_000_000), 1_290_000);
        assert_eq!(last_end_begun_before(&windows, 1_000_001), 1_300_000);
        assert_eq!(last_end_begun_before(&windows, 1_009_999), 1_300_000);
    }
}
