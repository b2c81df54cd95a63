//! Bytes from the exchange that cannot be published.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A record for the dead-letter topic.
#[derive(Debug)]
pub(crate) struct DeadLetter {
    /// The channel, or `history`; empty if it is unknown.
    pub(crate) channel: String,
    pub(crate) reason: String,
    /// As received, at most [`Self::MAX_BYTES`].
    pub(crate) bytes: Box<[u8]>,
    /// Number of bytes received.
    pub(crate) length: usize,
    /// Share of [`Self::MAX_QUEUED_BYTES`], while the record waits for a transaction.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

impl DeadLetter {
    /// Longer ones are truncated.
    pub(crate) const MAX_BYTES: usize = 512 * 1024;
    /// The most bytes of dead letters that wait for a transaction.
    pub(crate) const MAX_QUEUED_BYTES: usize = 16 * 1024 * 1024;

    /// The most characters of a channel or a reason, because both can quote what was received.
    const MAX_HEADER: usize = 1_000;

    pub(crate) fn new(channel: &str, reason: String, bytes: &[u8]) -> Self {
        let kept = bytes.get(..Self::MAX_BYTES).unwrap_or(bytes);
        let truncated = |mut text: String| {
            if let Some((at, _)) = text.char_indices().nth(Self::MAX_HEADER) {
                text.truncate(at);
            }
            text
        };
        Self {
            channel: truncated(channel.to_owned()),
            reason: truncated(reason),
            bytes: kept.into(),
            length: bytes.len(),
            permit: None,
        }
    }

    /// Waits until `budget`, of [`Self::MAX_QUEUED_BYTES`], has room for it.
    pub(crate) async fn with_permit(mut self, budget: &Arc<Semaphore>) -> Self {
        let bytes = u32::try_from(self.bytes.len()).expect("MAX_BYTES fits 32 bits");
        self.permit = budget.clone().acquire_many_owned(bytes).await.ok();
        self
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn dead_letters_wait_until_there_is_room_for_their_bytes() {
        let budget = Arc::new(Semaphore::new(DeadLetter::MAX_QUEUED_BYTES));
        let letter = || DeadLetter::new("", String::new(), &[0; DeadLetter::MAX_BYTES]).with_permit(&budget);
        let mut queued = Vec::new();
        while let Ok(letter) = timeout(Duration::from_secs(1), letter()).await {
            queued.push(letter);
        }
        assert_eq!(queued.len(), DeadLetter::MAX_QUEUED_BYTES / DeadLetter::MAX_BYTES);
        queued.pop();
        drop(letter().await);
    }
}
