//! The headers with which Kafka Connect names the origin of a dead letter.

use rdkafka::Message;
use rdkafka::message::{Header, Headers as _, OwnedHeaders};

use crate::record::RecordLocation;

const TOPIC: &str = "__connect.errors.topic";
const PARTITION: &str = "__connect.errors.partition";
const OFFSET: &str = "__connect.errors.offset";
const CONNECTOR: &str = "__connect.errors.connector.name";
const MESSAGE: &str = "__connect.errors.exception.message";

/// The record that became this dead letter; `None` if Kafka Connect did not write the letter.
pub(crate) fn origin(dead_letter: &impl Message) -> Option<RecordLocation> {
    let headers = dead_letter.headers()?;
    let header = |name: &str| {
        let value = headers.iter().find(|header| header.key == name)?.value?;
        std::str::from_utf8(value).ok()
    };
    Some(RecordLocation {
        topic: header(TOPIC)?.to_owned(),
        partition: header(PARTITION)?.parse().ok()?,
        offset: header(OFFSET)?.parse().ok()?,
    })
}

/// The headers of a dead letter that `connector` did not write itself.
pub(super) fn headers(origin: &RecordLocation, connector: &str, message: &str) -> OwnedHeaders {
    let (partition, offset) = (origin.partition.to_string(), origin.offset.to_string());
    let headers = [
        (TOPIC, origin.topic.as_str()),
        (PARTITION, &partition),
        (OFFSET, &offset),
        (CONNECTOR, connector),
        (MESSAGE, message),
    ];
    headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| {
        all.insert(Header { key, value: Some(value.as_bytes()) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::Timestamp;
    use rdkafka::message::OwnedMessage;

    fn dead_letter(headers: OwnedHeaders) -> OwnedMessage {
        OwnedMessage::new(None, None, "dlq".into(), Timestamp::NotAvailable, 0, 0, Some(headers))
    }

    fn with(headers: &[(&str, &str)]) -> OwnedMessage {
        let insert = |all: OwnedHeaders, (key, value): &(&str, &str)| {
            all.insert(Header { key, value: Some(value.as_bytes()) })
        };
        dead_letter(headers.iter().fold(OwnedHeaders::new(), insert))
    }

    fn location() -> RecordLocation {
        RecordLocation { topic: "deribit.trades".into(), partition: 4, offset: 9_007_199_254_740_993 }
    }

    #[test]
    fn the_origin_is_read_from_the_headers_of_connect() {
        let headers = [
            ("traceparent", "00-x"),
            ("__connect.errors.topic", "deribit.trades"),
            ("__connect.errors.partition", "4"),
            ("__connect.errors.offset", "9007199254740993"),
        ];
        assert_eq!(origin(&with(&headers)), Some(location()));
        assert_eq!(origin(&with(&headers[..3])), None);
        assert_eq!(origin(&with(&[])), None);
    }

    #[test]
    fn our_own_dead_letters_name_their_origin_as_connect_does() {
        let headers = headers(&location(), "kstream-trades", "skipped");
        assert_eq!(origin(&dead_letter(headers)), Some(location()));
    }
}
