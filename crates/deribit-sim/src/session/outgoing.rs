//! The way out of a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::SinkExt as _;
use futures_util::stream::SplitSink;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::faults::{Blow, FaultKind, spoil};

/// A frame did not fit behind those that wait for the reader.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooSlow;

/// Where everything that a connection says goes: replies, notifications, heartbeats, the last word.
#[derive(Debug)]
pub(super) struct Outgoing {
    queue: UnboundedSender<Step>,
    /// Bytes that wait for the reader, at most `room`.
    waiting: Arc<AtomicUsize>,
    room: usize,
    /// Said after what is said next.
    kept: Option<String>,
    /// Nothing is said any more, and nobody told.
    dead: bool,
}

/// What the writer does next.
#[derive(Debug)]
enum Step {
    Say(Message),
    Wait(Duration),
}

/// The other end of the queue.
#[derive(Debug)]
pub(super) struct Writer {
    queue: UnboundedReceiver<Step>,
    waiting: Arc<AtomicUsize>,
}

/// A way out on which at most `room` bytes wait, and what writes them to the socket.
pub(super) fn outgoing(room: usize) -> (Outgoing, Writer) {
    let (sender, queue) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let outgoing = Outgoing { queue: sender, waiting: Arc::clone(&waiting), room, kept: None, dead: false };
    (outgoing, Writer { queue, waiting })
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
        self.say(text);
        Ok(())
    }

    /// Says what a channel has to say, or what a fault makes of it.
    pub(super) fn notify(&mut self, text: String, blow: Option<Blow>) -> Result<(), TooSlow> {
        let Some(blow) = blow else {
            self.send(text)?;
            return self.kept.take().map_or(Ok(()), |kept| self.send(kept));
        };
        let text = spoil(text, blow);
        match blow.kind {
            FaultKind::Drop | FaultKind::Maintenance => {}
            FaultKind::Cut => return Err(TooSlow),
            FaultKind::HalfOpen => self.dead = true,
            FaultKind::Oversize => self.say(text),
            FaultKind::Duplicate => {
                self.send(text.clone())?;
                self.send(text)?;
            }
            FaultKind::Reorder => {
                if let Some(earlier) = self.kept.replace(text) {
                    self.send(earlier)?;
                }
            }
            FaultKind::Stall => {
                self.queue.send(Step::Wait(blow.lasts)).ok();
                self.send(text)?;
            }
            _ => self.send(text)?,
        }
        Ok(())
    }

    /// Whether the connection is to look open and be none.
    pub(super) fn is_dead(&self) -> bool {
        self.dead
    }

    fn say(&self, text: String) {
        if self.dead {
            return;
        }
        self.waiting.fetch_add(text.len(), Ordering::Relaxed);
        // An error says that the socket is gone; the session hears of it by reading.
        self.queue.send(Step::Say(Message::Text(text.into()))).ok();
    }

    /// Says goodbye, after what waits.
    pub(super) fn close(&self, code: u16, reason: &'static str) {
        let last = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
        self.queue.send(Step::Say(last)).ok();
    }
}

impl Writer {
    /// Writes until the way out is dropped, or the socket is gone.
    pub(super) async fn run(mut self, mut socket: SplitSink<WebSocket, Message>) {
        while let Some(step) = self.queue.recv().await {
            let message = match step {
                Step::Say(message) => message,
                Step::Wait(time) => {
                    tokio::time::sleep(time).await;
                    continue;
                }
            };
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
