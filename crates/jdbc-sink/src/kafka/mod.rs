//! Reading topics from one offset to another, and how far the connectors are.

pub mod letter;
pub mod progress;
pub mod reader;

use common::Failure;

/// What Kafka did not do.
pub(crate) fn failed(doing: &str, error: impl std::fmt::Display) -> Failure {
    Failure::Other(anyhow::anyhow!("kafka: {doing}: {error}"))
}
