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
pub const BYTES: usize = super::session::LARGEST_MESSAGE;

/// What comes from a connection.
#[derive(Debug)]
pub enum Event {
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

impl Event {
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
pub struct Closed;

/// Where connections hand in what comes.
#[derive(Debug, Clone)]
pub struct Sender {
    events: mpsc::Sender<(Event, OwnedSemaphorePermit)>,
    room: Room,
}

/// Where it comes out, in the same order.
#[derive(Debug)]
pub struct Receiver {
    events: mpsc::Receiver<(Event, OwnedSemaphorePermit)>,
    room: Room,
}

/// For how many bytes there is room, and the gauge of those that there are.
#[derive(Debug, Clone)]
struct Room {
    left: Arc<Semaphore>,
    waiting: Gauge,
}

/// A queue of events.
#[must_use]
pub fn queue(metrics: &QueueMetrics) -> (Sender, Receiver) {
    let (events, heard) = mpsc::channel(EVENTS);
    let room = Room { left: Arc::new(Semaphore::new(BYTES)), waiting: metrics.frames.clone() };
    room.tell();
    metrics.bounds.0.set(gauged(BYTES));
    (Sender { events, room: room.clone() }, Receiver { events: heard, room })
}

impl Room {
    fn tell(&self) {
        let taken = BYTES.saturating_sub(self.left.available_permits());
        self.waiting.set(gauged(taken));
    }
}

impl Sender {
    /// Waits until there is room.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn send(&self, event: Event) -> Result<(), Closed> {
        let bytes = u32::try_from(event.bytes().min(BYTES)).expect("16 MiB fit 32 bits");
        let room = self.room.left.clone().acquire_many_owned(bytes).await.map_err(|_| Closed)?;
        self.room.tell();
        self.events.send((event, room)).await.map_err(|_| Closed)
    }

    /// Whether anybody still listens.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.events.is_closed()
    }

    /// Waits until nobody listens any more.
    pub async fn closed(&self) {
        self.events.closed().await;
    }
}

impl Receiver {
    /// The next one; `None` once there is no connection any more.
    pub async fn recv(&mut self) -> Option<Event> {
        let (event, room) = self.events.recv().await?;
        drop(room);
        self.room.tell();
        Some(event)
    }

    /// Takes no more.
    pub fn close(&mut self) {
        self.events.close();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use common::metrics::Metrics;
    use tokio::time::timeout;

    use super::*;

    fn queue() -> (Sender, Receiver) {
        super::queue(&QueueMetrics::new(&Metrics::new("test")))
    }

    fn garbage(bytes: usize) -> Event {
        Event::Garbage { bytes: vec![0; bytes], why: String::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn large_frames_wait_outside_until_there_is_room_for_their_bytes() {
        let (events, mut heard) = queue();
        events.send(garbage(BYTES / 2)).await.unwrap();
        events.send(garbage(BYTES / 2)).await.unwrap();
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
        assert_eq!(metrics.frames.get(), 1_500);
        heard.recv().await.unwrap();
        assert_eq!(metrics.frames.get(), 500);
        assert_eq!(metrics.bounds.0.get(), 16 * 1024 * 1024);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_waits_for_room_hears_that_nobody_listens_any_more() {
        let (events, heard) = queue();
        events.send(garbage(BYTES)).await.unwrap();
        let waiting = tokio::spawn(async move { events.send(garbage(2 * BYTES)).await });
        tokio::task::yield_now().await;
        drop(heard);
        waiting.await.unwrap().unwrap_err();
    }
}
