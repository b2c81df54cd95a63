//! A topic and the table that a connector brings it into.

use common::config::TopicsConfig;

use crate::table::{MOVING_AVERAGES, TRADES, Table};

/// A topic, its table, and what lies between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The connector's name.
    pub connector: &'static str,
    /// The topic that it reads.
    pub topic: String,
    /// The table that it writes.
    pub table: &'static Table,
}

impl Pair {
    /// Trades, and moving averages.
    #[must_use]
    pub fn all(topics: &TopicsConfig) -> [Self; 2] {
        let trades = Self { connector: "kstream-trades", topic: topics.trades.clone(), table: &TRADES };
        let averages = Self {
            connector: "kstream-moving-averages",
            topic: topics.moving_averages.clone(),
            table: &MOVING_AVERAGES,
        };
        [trades, averages]
    }

    /// Where the connector puts what it could not convert.
    #[must_use]
    pub fn dead_letters(&self) -> String {
        format!("{}.connect-dlq", self.topic)
    }

    /// The connector's consumer group.
    #[must_use]
    pub fn group(&self) -> String {
        format!("connect-{}", self.connector)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::config::load_from;

    #[test]
    fn each_pair_is_what_its_connector_is_configured_to() {
        let config: crate::Config = load_from(None, []).unwrap();
        let surroundings = crate::connect::settings::Surroundings::of(&config).unwrap();
        let connectors = crate::connect::template::connectors(&config.topics, &surroundings);
        for (pair, connector) in Pair::all(&config.topics).iter().zip(connectors) {
            assert_eq!(pair.connector, connector.name);
            assert_eq!(pair.topic, connector.config["topics"]);
            assert_eq!(pair.table.name, connector.config["collection.name.format"]);
            assert_eq!(pair.table.key.join(","), connector.config["primary.key.fields"]);
            assert_eq!(pair.dead_letters(), connector.config["errors.deadletterqueue.topic.name"]);
        }
    }
}
