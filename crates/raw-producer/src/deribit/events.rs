//! What comes from connections, on its way to whoever listens. Bounded by bytes too, as one frame may be as large as a hundred thousand
//! others; while there is no room, no socket is read.

use std::sync::Arc;

use common::metrics::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::metrics::{QueueMetrics, gauged};

/// Events that wait, at most.
const EVENTS: usize = 128;
/// Bytes of frames that wait, at most: as many as one frame may have.
pub const FRAME_QUEUE_BYTES: usize = super::connection::LARGEST_MESSAGE;

/// What comes from a connection.
#[derive(Debug)]
pub(crate) enum ConnectionEvent {
    /// Every channel has been answered for; questions can be asked.
    Up {
        /// Which connection.
        connection: usize,
        /// Takes the text of questions; dropped, the connection ends.
        questions: mpsc::Sender<String>,
    },
    /// So many channels the exchange does not know on a connection that is up.
    Missing {
        /// Which connection.
        connection: usize,
        /// How many.
        channels: usize,
    },
    /// A connection has called the exchange by itself, which takes what could be asked otherwise.
    Called,
    /// A frame with trades or with the answer to a question.
    Frame {
        /// Which connection.
        connection: usize,
        /// As it came.
        text: Utf8Bytes,
        /// Our clock, microseconds since the epoch.
        received_at: i64,
    },
    /// A frame that is of no use.
    Garbage {
        /// As it came.
        bytes: Vec<u8>,
        /// What is wrong with it.
        why: String,
    },
    /// The connection is lost; there will be another.
    Down {
        /// Which connection.
        connection: usize,
    },
}

impl ConnectionEvent {
    fn bytes(&self) -> usize {
        match self {
            Self::Frame { text, .. } => text.len(),
            Self::Garbage { bytes, .. } => bytes.len(),
            Self::Up { .. } | Self::Missing { .. } | Self::Called | Self::Down { .. } => 0,
        }
    }
}

/// Nobody listens any more.
#[derive(Debug, thiserror::Error)]
#[error("nobody listens any more")]
pub(crate) struct QueueClosed;

/// Where connections hand in what comes.
#[derive(Debug, Clone)]
pub(crate) struct EventSender {
    events: mpsc::Sender<(ConnectionEvent, OwnedSemaphorePermit)>,
    room: ByteBudget,
}

/// Where it comes out, in the same order.
#[derive(Debug)]
pub(crate) struct EventReceiver {
    events: mpsc::Receiver<(ConnectionEvent, OwnedSemaphorePermit)>,
    room: ByteBudget,
}

/// For how many bytes there is room, and the gauge of those that there are.
#[derive(Debug, Clone)]
struct ByteBudget {
    left: Arc<Semaphore>,
    waiting: Gauge,
}

/// A queue of events.
pub(crate) fn queue(metrics: &QueueMetrics) -> (EventSender, EventReceiver) {
    let (events, heard) = mpsc::channel(EVENTS);
    let room = ByteBudget {
        left: Arc::new(Semaphore::new(FRAME_QUEUE_BYTES)),
        waiting: metrics.frame_bytes.clone(),
    };
    room.tell();
    metrics.frame_capacity.set(gauged(FRAME_QUEUE_BYTES));
    (EventSender { events, room: room.clone() }, EventReceiver { events: heard, room })
}

impl ByteBudget {
    fn tell(&self) {
        let taken = FRAME_QUEUE_BYTES.saturating_sub(self.left.available_permits());
        self.waiting.set(gauged(taken));
    }
}

impl EventSender {
    /// Waits until there is room.
    ///
    /// # Errors
    /// [`QueueClosed`].
    pub(crate) async fn send(&self, event: ConnectionEvent) -> Result<(), QueueClosed> {
        let bytes = u32::try_from(event.bytes().min(FRAME_QUEUE_BYTES)).expect("16 MiB fit 32 bits");
        let room = self.room.left.clone().acquire_many_owned(bytes).await.map_err(|_| QueueClosed)?;
        self.room.tell();
        self.events.send((event, room)).await.map_err(|_| QueueClosed)
    }

    /// Whether anybody still listens.
    pub(crate) fn is_closed(&self) -> bool {
        self.events.is_closed()
    }

    /// Waits until nobody listens any more.
    pub(crate) async fn closed(&self) {
        self.events.closed().await;
    }
}

impl EventReceiver {
    /// The next one; `None` once there is no connection any more.
    pub(crate) async fn recv(&mut self) -> Option<ConnectionEvent> {
        let (event, room) = self.events.recv().await?;
        drop(room);
        self.room.tell();
        Some(event)
    }

    /// Takes no more.
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

    fn garbage(bytes: usize) -> ConnectionEvent {
        ConnectionEvent::Garbage { bytes: vec![0; bytes], why: String::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn large_frames_wait_outside_until_there_is_room_for_their_bytes() {
        let (events, mut heard) = queue();
        events.send(garbage(FRAME_QUEUE_BYTES / 2)).await.unwrap();
        events.send(garbage(FRAME_QUEUE_BYTES / 2)).await.unwrap();
        timeout(Duration::from_secs(1), events.send(garbage(1))).await.unwrap_err();
        heard.recv().await.unwrap();
        events.send(garbage(1)).await.unwrap();
    }

    #[tokio::test]
    async fn a_gauge_tells_the_bytes_that_wait_and_another_how_many_may() {
        let metrics = QueueMetrics::new(&Metrics::new("test"));
        let (events, mut heard) = super::queue(&metrics);
        events.send(garbage(1_000)).await.unwrap();
        events.send(garbage(500)).await.unwrap();
        assert_eq!(metrics.frame_bytes.get(), 1_500);
        heard.recv().await.unwrap();
        assert_eq!(metrics.frame_bytes.get(), 500);
        assert_eq!(metrics.frame_capacity.get(), 16 * 1024 * 1024);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_waits_for_room_hears_that_nobody_listens_any_more() {
        let (events, heard) = queue();
        events.send(garbage(FRAME_QUEUE_BYTES)).await.unwrap();
        let waiting = tokio::spawn(async move { events.send(garbage(2 * FRAME_QUEUE_BYTES)).await });
        tokio::task::yield_now().await;
        drop(heard);
        waiting.await.unwrap().unwrap_err();
    }
}
