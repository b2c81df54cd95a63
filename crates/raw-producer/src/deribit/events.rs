//! The queue from the connections to the feed. It is bounded by bytes too, because one frame can be as large as 100,000 others. While it is
//! full, no socket is read.

use std::sync::Arc;

use common::metrics::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::MAX_MESSAGE_BYTES;
use crate::metrics::{QueueMetrics, gauged};

/// The most events in the queue.
const MAX_EVENTS: usize = 128;
/// The most bytes of frames in the queue: one frame can have as many.
pub const FRAME_QUEUE_BYTES: usize = MAX_MESSAGE_BYTES;

/// An event of a connection.
#[derive(Debug)]
pub(crate) enum ConnectionEvent {
    /// The exchange has answered every subscription.
    Subscribed {
        connection: usize,
        /// Takes the text of requests. The connection ends when this is dropped.
        requests: mpsc::Sender<String>,
    },
    /// The number of channels that the exchange does not know has changed.
    UnsubscribedChannels { connection: usize, channels: usize },
    /// The connection has sent a request itself; it costs a credit.
    RequestSent,
    /// A frame with trades, or with the response to a request.
    Frame {
        connection: usize,
        text: Utf8Bytes,
        /// Our clock, microseconds since 1970.
        received_at: i64,
    },
    /// A frame that is no message of the protocol.
    Unparsable { bytes: Vec<u8>, why: String },
    /// The connection is lost. It will reconnect.
    Disconnected { connection: usize },
}

impl ConnectionEvent {
    fn bytes(&self) -> usize {
        match self {
            Self::Frame { text, .. } => text.len(),
            Self::Unparsable { bytes, .. } => bytes.len(),
            Self::Subscribed { .. }
            | Self::UnsubscribedChannels { .. }
            | Self::RequestSent
            | Self::Disconnected { .. } => 0,
        }
    }
}

/// The receiver is closed.
#[derive(Debug, thiserror::Error)]
#[error("the event queue is closed")]
pub(crate) struct QueueClosed;

/// The connections' side of the queue.
#[derive(Debug, Clone)]
pub(crate) struct EventSender {
    events: mpsc::Sender<(ConnectionEvent, OwnedSemaphorePermit)>,
    budget: ByteBudget,
}

/// The feed's side of the queue.
#[derive(Debug)]
pub(crate) struct EventReceiver {
    events: mpsc::Receiver<(ConnectionEvent, OwnedSemaphorePermit)>,
    budget: ByteBudget,
}

/// The bytes that the queue may still take, and the gauge of those in it.
#[derive(Debug, Clone)]
struct ByteBudget {
    left: Arc<Semaphore>,
    queued: Gauge,
}

pub(crate) fn queue(metrics: &QueueMetrics) -> (EventSender, EventReceiver) {
    let (sender, receiver) = mpsc::channel(MAX_EVENTS);
    let budget =
        ByteBudget { left: Arc::new(Semaphore::new(FRAME_QUEUE_BYTES)), queued: metrics.frame_bytes.clone() };
    budget.update_gauge();
    metrics.frame_capacity.set(gauged(FRAME_QUEUE_BYTES));
    (EventSender { events: sender, budget: budget.clone() }, EventReceiver { events: receiver, budget })
}

impl ByteBudget {
    fn update_gauge(&self) {
        let queued = FRAME_QUEUE_BYTES.saturating_sub(self.left.available_permits());
        self.queued.set(gauged(queued));
    }
}

impl EventSender {
    /// Waits until there is room.
    pub(crate) async fn send(&self, event: ConnectionEvent) -> Result<(), QueueClosed> {
        let bytes = u32::try_from(event.bytes().min(FRAME_QUEUE_BYTES)).expect("16 MiB fit 32 bits");
        let permit = self.budget.left.clone().acquire_many_owned(bytes).await.map_err(|_| QueueClosed)?;
        self.budget.update_gauge();
        self.events.send((event, permit)).await.map_err(|_| QueueClosed)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.events.is_closed()
    }

    /// Waits until the receiver is closed.
    pub(crate) async fn closed(&self) {
        self.events.closed().await;
    }
}

impl EventReceiver {
    /// The next event; `None` once every sender is dropped.
    pub(crate) async fn recv(&mut self) -> Option<ConnectionEvent> {
        let (event, permit) = self.events.recv().await?;
        drop(permit);
        self.budget.update_gauge();
        Some(event)
    }

    /// Closes the queue for new events.
    pub(crate) fn close(&mut self) {
        self.events.close();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use common::metrics::Metrics;
    use tokio::time::timeout;

    use super::*;

    fn queue() -> (EventSender, EventReceiver) {
        super::queue(&QueueMetrics::new(&Metrics::new("test")))
    }

    fn unparsable(bytes: usize) -> ConnectionEvent {
        ConnectionEvent::Unparsable { bytes: vec![0; bytes], why: String::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn large_frames_wait_until_there_is_room_for_their_bytes() {
        let (sender, mut receiver) = queue();
        sender.send(unparsable(FRAME_QUEUE_BYTES / 2)).await.unwrap();
        sender.send(unparsable(FRAME_QUEUE_BYTES / 2)).await.unwrap();
        timeout(Duration::from_secs(1), sender.send(unparsable(1))).await.unwrap_err();
        receiver.recv().await.unwrap();
        sender.send(unparsable(1)).await.unwrap();
    }

    #[tokio::test]
    async fn gauges_show_the_queued_bytes_and_the_capacity() {
        let metrics = QueueMetrics::new(&Metrics::new("test"));
        let (sender, mut receiver) = super::queue(&metrics);
        sender.send(unparsable(1_000)).await.unwrap();
        sender.send(unparsable(500)).await.unwrap();
        assert_eq!(metrics.frame_bytes.get(), 1_500);
        receiver.recv().await.unwrap();
        assert_eq!(metrics.frame_bytes.get(), 500);
        assert_eq!(metrics.frame_capacity.get(), 16 * 1024 * 1024);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_that_waits_for_room_notices_that_the_queue_is_closed() {
        let (sender, receiver) = queue();
        sender.send(unparsable(FRAME_QUEUE_BYTES)).await.unwrap();
        let waiting = tokio::spawn(async move { sender.send(unparsable(2 * FRAME_QUEUE_BYTES)).await });
        tokio::task::yield_now().await;
        drop(receiver);
        waiting.await.unwrap().unwrap_err();
    }
}
