//! The configured start of a new topic.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::config::{Invalid, TopicsConfig};
use serde::{Deserialize, Deserializer, de};

use crate::clock::ExchangeTime;

/// A point in time, absolute or relative to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartFrom {
    Ago(Duration),
    At(SystemTime),
}

impl StartFrom {
    fn time(self, now: SystemTime) -> SystemTime {
        match self {
            Self::Ago(ago) => now.checked_sub(ago).unwrap_or(UNIX_EPOCH),
            Self::At(time) => time,
        }
    }

    pub(crate) fn millis(self, now: SystemTime) -> ExchangeTime {
        let since = self.time(now).duration_since(UNIX_EPOCH).unwrap_or_default();
        ExchangeTime::try_from(since.as_millis()).unwrap_or(ExchangeTime::MAX)
    }

    /// Rejects a time before the topics' retention. Brokers delete by event time, so older averages would be deleted at once.
    pub(crate) fn check(self, topics: &TopicsConfig) -> Option<Invalid> {
        let now = SystemTime::now();
        let back = now.duration_since(self.time(now)).unwrap_or_default();
        (back > *topics.retention).then(|| {
            let allowed = format!(
                "a time within topics.retention = {}: what is made of older trades would be deleted at once; raise topics.retention for all services",
                topics.retention
            );
            Invalid::new("deribit.start_from", self, allowed)
        })
    }
}

impl std::fmt::Display for StartFrom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ago(ago) => common::config::Duration(*ago).fmt(f),
            Self::At(time) => humantime::format_rfc3339_seconds(*time).fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for StartFrom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let ago = humantime::parse_duration(&text).map(Self::Ago);
        ago.or_else(|_| humantime::parse_rfc3339_weak(&text).map(Self::At)).map_err(|_| {
            de::Error::custom(format!(
                "invalid value {text:?}; expected a duration such as 2d or a time such as 2026-01-31T00:00:00Z"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_goes_back_from_now_and_a_time_is_itself() {
        let read = |text: &str| serde_json::from_value::<StartFrom>(text.into()).unwrap();
        let now = UNIX_EPOCH + Duration::from_secs(10 * 86_400);
        assert_eq!(read("2d").millis(now), 8 * 86_400_000);
        assert_eq!(read("1970-01-03T00:00:00Z").millis(now), 2 * 86_400_000);
        assert!(serde_json::from_value::<StartFrom>("soon".into()).is_err());
    }
}
