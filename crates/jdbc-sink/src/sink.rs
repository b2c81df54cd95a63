//! The two sinks. This module owns their names: topic, table, connector, consumer group and dead-letter topic.

use common::config::TopicsConfig;
use common::kafka::admin::TopicSpec;

use crate::table::{MOVING_AVERAGES, TRADES, Table};

/// A topic, its table, and the connector between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sink {
    pub(crate) connector: &'static str,
    pub(crate) table: &'static Table,
    source: TopicSpec,
}

impl Sink {
    /// Trades, and moving averages.
    pub(crate) fn all(topics: &TopicsConfig) -> [Self; 2] {
        [
            Self { connector: "kstream-trades", table: &TRADES, source: TopicSpec::trades(topics) },
            Self {
                connector: "kstream-moving-averages",
                table: &MOVING_AVERAGES,
                source: TopicSpec::moving_averages(topics),
            },
        ]
    }

    /// The topic that the connector reads.
    pub(crate) fn topic(&self) -> &str {
        &self.source.name
    }

    /// The topic to which the connector writes every record that it cannot convert.
    pub(crate) fn dead_letter_topic(&self) -> String {
        format!("{}.connect-dlq", self.topic())
    }

    /// Connect derives the group from the connector's name.
    pub(crate) fn consumer_group(&self) -> String {
        format!("connect-{}", self.connector)
    }

    /// Both topics of the sink.
    ///
    /// Connect gives a dead letter the timestamp of its origin, and a good record may be among them. So the dead-letter topic keeps its
    /// records as long as the source topic does.
    pub(crate) fn topic_specs(&self, topics: &TopicsConfig) -> [TopicSpec; 2] {
        let dead_letters = TopicSpec {
            name: self.dead_letter_topic(),
            key: self.source.key,
            retention: self.source.retention,
            ..TopicSpec::dead_letter(topics)
        };
        [dead_letters, self.source.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::config::load_from;

    #[test]
    fn a_dead_letter_stays_as_long_as_its_origin() {
        let config: crate::Config = load_from(None, []).unwrap();
        let [trades, averages] = Sink::all(&config.topics);
        let [dead_letters, source] = trades.topic_specs(&config.topics);
        assert_eq!((source.name.as_str(), source.retention), ("deribit.trades", None));
        assert_eq!(
            (dead_letters.name.as_str(), dead_letters.retention),
            ("deribit.trades.connect-dlq", None)
        );
        let [dead_letters, _] = averages.topic_specs(&config.topics);
        assert_eq!(dead_letters.name, "deribit.moving-averages.connect-dlq");
        assert_eq!(dead_letters.retention, Some(*config.topics.retention));
        // As large as the request that the connector's own producer may make.
        assert_eq!(dead_letters.max_message_bytes, Some(2_097_152));
    }
}
