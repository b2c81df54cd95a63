//! Where a dead letter comes from, by the headers that Kafka Connect puts on it.

use rdkafka::Message;
use rdkafka::message::Headers as _;

/// The record that a dead letter once was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
}

impl Origin {
    /// The origin of a dead letter; `None` if it was not Kafka Connect that wrote it.
    pub fn of(letter: &impl Message) -> Option<Self> {
        let headers = letter.headers()?;
        let header = |name: &str| {
            let value = headers.iter().find(|header| header.key == name)?.value?;
            std::str::from_utf8(value).ok()
        };
        Some(Self {
            topic: header("__connect.errors.topic")?.to_owned(),
            partition: header("__connect.errors.partition")?.parse().ok()?,
            offset: header("__connect.errors.offset")?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::Timestamp;
    use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};

    fn letter(headers: &[(&str, &str)]) -> OwnedMessage {
        let insert = |all: OwnedHeaders, (key, value): &(&str, &str)| {
            all.insert(Header { key, value: Some(value.as_bytes()) })
        };
        let headers = headers.iter().fold(OwnedHeaders::new(), insert);
        OwnedMessage::new(None, None, "dlq".into(), Timestamp::NotAvailable, 0, 0, Some(headers))
    }

    #[test]
    fn the_origin_is_read_off_connects_headers() {
        let headers = [
            ("traceparent", "00-x"),
            ("__connect.errors.topic", "deribit.trades"),
            ("__connect.errors.partition", "4"),
            ("__connect.errors.offset", "9007199254740993"),
        ];
        let expected = Origin { topic: "deribit.trades".into(), partition: 4, offset: 9_007_199_254_740_993 };
        assert_eq!(Origin::of(&letter(&headers)), Some(expected));
        assert_eq!(Origin::of(&letter(&headers[..3])), None);
        assert_eq!(Origin::of(&letter(&[])), None);
    }
}
