//! The way out of a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::SinkExt as _;
use futures_util::stream::SplitSink;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

/// A frame did not fit behind those that wait for the reader.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooSlow;

/// Where everything that a connection says goes: replies, notifications, heartbeats, the last word.
#[derive(Debug)]
pub(super) struct Outgoing {
    queue: UnboundedSender<Message>,
    /// Bytes that wait for the reader, at most `room`.
    waiting: Arc<AtomicUsize>,
    room: usize,
}

/// The other end of the queue.
#[derive(Debug)]
pub(super) struct Writer {
    queue: UnboundedReceiver<Message>,
    waiting: Arc<AtomicUsize>,
}

/// A way out on which at most `room` bytes wait, and what writes them to the socket.
pub(super) fn outgoing(room: usize) -> (Outgoing, Writer) {
    let (sender, queue) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    (Outgoing { queue: sender, waiting: Arc::clone(&waiting), room }, Writer { queue, waiting })
}

impl Outgoing {
    /// Says something. This is the one place that everything passes.
    ///
    /// A frame that finds nothing waiting passes whatever its size: it says nothing about the reader.
    pub(super) fn send(&self, text: String) -> Result<(), TooSlow> {
        let waiting = self.waiting.load(Ordering::Relaxed);
        if waiting > 0 && waiting + text.len() > self.room {
            return Err(TooSlow);
        }
        self.waiting.fetch_add(text.len(), Ordering::Relaxed);
        // An error says that the socket is gone; the session hears of it by reading.
        self.queue.send(Message::Text(text.into())).ok();
        Ok(())
    }

    /// Says goodbye, after what waits.
    pub(super) fn close(&self, code: u16, reason: &'static str) {
        self.queue.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).ok();
    }
}

impl Writer {
    /// Writes until the way out is dropped, or the socket is gone.
    pub(super) async fn run(mut self, mut socket: SplitSink<WebSocket, Message>) {
        while let Some(message) = self.queue.recv().await {
            let length = if let Message::Text(text) = &message { text.len() } else { 0 };
            if socket.send(message).await.is_err() {
                return;
            }
            self.waiting.fetch_sub(length, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_slow_reader_is_bounded() {
        let (outgoing, _writer) = outgoing(100);
        assert_eq!(outgoing.send("x".repeat(500)), Ok(()));
        assert_eq!(outgoing.send("x".into()), Err(TooSlow));
    }
}
