//! Reading topics from one offset to another, and how far the connectors are.

pub mod progress;
pub mod reader;

use common::Failure;

/// What Kafka did not do.
pub(crate) fn failed(doing: &str, error: impl std::fmt::Display) -> Failure {
    Failure::Other(anyhow::anyhow!("kafka: {doing}: {error}"))
}

/// librdkafka's questions block, and everything else of the service is on one thread.
pub(crate) async fn blocking<T: Send + 'static>(
    question: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(question).await.map_err(|error| Failure::Defect(error.to_string()))?
}
