//! Reads offset ranges of a topic, and measures the lag of a connector.

pub(crate) mod progress;
pub(crate) mod reader;

use common::Failure;

/// `step` is what Kafka was asked to do.
pub(crate) fn kafka_error(step: &str, error: impl std::fmt::Display) -> Failure {
    Failure::Other(anyhow::anyhow!("kafka: {step}: {error}"))
}

/// Runs a blocking call of librdkafka away from the async thread.
pub(crate) async fn run_blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(call).await.map_err(|error| Failure::Internal(error.to_string()))?
}
