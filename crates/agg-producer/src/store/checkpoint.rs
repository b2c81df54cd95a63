//! What is committed with an offset, so that a restart goes on with the same numbers.

use common::config::TopicsConfig;
use common::model::EventTime;
use serde::{Deserialize, Serialize};

use crate::store::aggregator::{Offset, ReplayPoint, StreamTimeOverride};
use crate::window::time_windows::TimeWindows;
use crate::window::weights::Tau;

/// What decides the numbers. State made with other settings cannot be gone on with.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fingerprint {
    size_ms: i64,
    advance_ms: i64,
    grace_ms: i64,
    ema_tau_ms: f64,
    trades: String,
    candles: String,
    moving_averages: String,
    late: String,
}

impl Fingerprint {
    /// The settings in force.
    #[must_use]
    pub fn new(windows: &TimeWindows, tau: Tau, topics: &TopicsConfig) -> Self {
        Self {
            size_ms: windows.size(),
            advance_ms: windows.advance(),
            grace_ms: windows.grace(),
            ema_tau_ms: tau.millis(),
            trades: topics.trades.clone(),
            candles: topics.candles.clone(),
            moving_averages: topics.moving_averages.clone(),
            late: topics.late.clone(),
        }
    }
}

/// How far a partition has been processed. It stands in the metadata of the committed offset, in the same transaction as
/// everything that was published up to there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// As it stood at the committed offset.
    pub stream_time: Option<EventTime>,
    /// Every window that ends at or before this has been published, or is not to be.
    pub emitted_through: Option<EventTime>,
    /// How many candles there are of the slices that a later window needs.
    pub candles: u64,
    /// Slices that end at or before this have none, as their windows were not to be published.
    pub silent_through: Option<EventTime>,
    /// Where to read from, so that every other slice is whole that a later window needs; the committed offset where none is.
    pub replay: ReplayPoint,
    /// Stream times that the records read again would not meet by themselves.
    pub jumps: Vec<StreamTimeOverride>,
}

/// Why a committed offset cannot be gone on from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Somebody else committed it, or an incompatible version of this program.
    #[error("its metadata is not this program's: {0:?}")]
    Foreign(String),
    /// The settings have changed.
    #[error("it was committed with other settings: then {then}, now {now}")]
    OtherSettings {
        /// The settings that were in force at the commit.
        then: String,
        /// The settings in force now.
        now: String,
    },
    /// Out of order within itself.
    #[error("its metadata is damaged: the replay offset {0} is beyond the committed one")]
    Damaged(i64),
}

#[derive(Serialize, Deserialize)]
struct Metadata {
    version: u32,
    settings: serde_json::Value,
    stream_time: Option<EventTime>,
    emitted_through: Option<EventTime>,
    candles: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    silent_through: Option<EventTime>,
    replay_offset: i64,
    replay_stream_time: Option<EventTime>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    jumps: Vec<(i64, EventTime)>,
}

impl Checkpoint {
    /// Goes up when the metadata's meaning changes.
    const VERSION: u32 = 3;

    /// As text, for the offset's metadata.
    #[must_use]
    pub fn to_metadata(&self, fingerprint: &Fingerprint) -> String {
        let metadata = Metadata {
            version: Self::VERSION,
            settings: serde_json::to_value(fingerprint).expect("numbers and texts always become JSON"),
            stream_time: self.stream_time,
            emitted_through: self.emitted_through,
            candles: self.candles,
            silent_through: self.silent_through,
            replay_offset: self.replay.offset.0,
            replay_stream_time: self.replay.stream_time,
            jumps: self.jumps.iter().map(|jump| (jump.offset.0, jump.stream_time)).collect(),
        };
        serde_json::to_string(&metadata).expect("numbers and texts always become JSON")
    }

    /// From the metadata of the committed offset.
    ///
    /// # Errors
    /// Where it is not from this program with these settings.
    pub fn from_metadata(
        text: &str,
        committed: Offset,
        fingerprint: &Fingerprint,
    ) -> Result<Self, CheckpointError> {
        let foreign = || CheckpointError::Foreign(text.chars().take(200).collect());
        let metadata: Metadata = serde_json::from_str(text).map_err(|_| foreign())?;
        if metadata.version != Self::VERSION {
            return Err(foreign());
        }
        let now = serde_json::to_value(fingerprint).expect("numbers and texts always become JSON");
        if metadata.settings != now {
            return Err(CheckpointError::OtherSettings {
                then: metadata.settings.to_string(),
                now: now.to_string(),
            });
        }
        if metadata.replay_offset > committed.0 {
            return Err(CheckpointError::Damaged(metadata.replay_offset));
        }
        Ok(Self {
            stream_time: metadata.stream_time,
            emitted_through: metadata.emitted_through,
            candles: metadata.candles,
            silent_through: metadata.silent_through,
            replay: ReplayPoint {
                offset: Offset(metadata.replay_offset),
                stream_time: metadata.replay_stream_time,
            },
            jumps: metadata
                .jumps
                .into_iter()
                .map(|(offset, stream_time)| jump(offset, stream_time))
                .collect(),
        })
    }
}

fn jump(offset: i64, stream_time: EventTime) -> StreamTimeOverride {
    StreamTimeOverride { offset: Offset(offset), stream_time }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;
    use std::time::Duration;

    use super::*;
    use crate::store::aggregator::Aggregator;

    fn fingerprint(advance: u64, candles: &str) -> Fingerprint {
        static TOPICS: LazyLock<TopicsConfig> = LazyLock::new(|| {
            common::config::load_from::<crate::Config>(None, []).expect("the defaults are good").topics
        });
        let second = Duration::from_secs(1);
        let windows = TimeWindows::new(second * 60, Duration::from_secs(advance), second).unwrap();
        let topics = TopicsConfig { candles: candles.into(), ..TOPICS.clone() };
        Fingerprint::new(&windows, Tau::new(second * 30, &windows).unwrap(), &topics)
    }

    const CHECKPOINT: Checkpoint = Checkpoint {
        stream_time: Some(1_700_000_000_123),
        emitted_through: Some(1_699_999_990_000),
        candles: 30_000,
        silent_through: None,
        replay: ReplayPoint { offset: Offset(41), stream_time: None },
        jumps: Vec::new(),
    };

    #[test]
    fn what_was_committed_comes_back() {
        let fingerprint = fingerprint(10, "c");
        let text = CHECKPOINT.to_metadata(&fingerprint);
        assert_eq!(Checkpoint::from_metadata(&text, Offset(41), &fingerprint), Ok(CHECKPOINT));
        assert!(text.len() < 1000, "Kafka takes 4096 bytes: {text}");
    }

    #[test]
    fn as_many_jumps_as_there_can_be_fit_into_what_kafka_takes_by_default() {
        let fingerprint = fingerprint(10, &"c".repeat(249));
        let jumps = (0..Aggregator::MOST_JUMPS).map(|_| jump(i64::MAX, 1 << 53)).collect();
        let most = Checkpoint { candles: u64::MAX, silent_through: Some(1 << 53), ..CHECKPOINT };
        let checkpoint = Checkpoint { jumps, ..most };
        let text = checkpoint.to_metadata(&fingerprint);
        assert_eq!(Checkpoint::from_metadata(&text, Offset(41), &fingerprint), Ok(checkpoint));
        assert!(text.len() < 4096, "{} bytes", text.len());
    }

    #[test]
    fn other_windows_and_other_topics_are_told_apart_and_shown() {
        let text = CHECKPOINT.to_metadata(&fingerprint(10, "c"));
        for other in [fingerprint(20, "c"), fingerprint(10, "d")] {
            let refused = Checkpoint::from_metadata(&text, Offset(50), &other).unwrap_err();
            assert!(matches!(refused, CheckpointError::OtherSettings { .. }));
        }
        let refused = Checkpoint::from_metadata(&text, Offset(50), &fingerprint(20, "c")).unwrap_err();
        assert!(refused.to_string().contains("\"advance_ms\":10000"), "{refused}");
        assert!(refused.to_string().contains("\"advance_ms\":20000"), "{refused}");
    }

    #[test]
    fn metadata_of_other_programs_and_versions_is_foreign() {
        let fingerprint = fingerprint(10, "c");
        let newer = CHECKPOINT.to_metadata(&fingerprint).replace("\"version\":3", "\"version\":4");
        for text in ["", "{}", "AAE=", newer.as_str()] {
            let refused = Checkpoint::from_metadata(text, Offset(50), &fingerprint).unwrap_err();
            assert!(matches!(refused, CheckpointError::Foreign(_)), "{refused}");
        }
    }

    #[test]
    fn a_replay_offset_beyond_the_committed_one_is_damage() {
        let fingerprint = fingerprint(10, "c");
        let text = CHECKPOINT.to_metadata(&fingerprint);
        let refused = Checkpoint::from_metadata(&text, Offset(40), &fingerprint);
        assert_eq!(refused, Err(CheckpointError::Damaged(41)));
    }
}
