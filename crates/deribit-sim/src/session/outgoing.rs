//! The send buffer of a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::SinkExt as _;
use futures_util::stream::SplitSink;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::faults::{FaultKind, InjectedFault, corrupt};

/// The send buffer is full.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SlowConsumer;

/// The sending half of the buffer: replies, notifications, heartbeats and the close frame pass here.
#[derive(Debug)]
pub(super) struct Outgoing {
    queue: UnboundedSender<Step>,
    /// Bytes in the buffer, at most `room`.
    waiting: Arc<AtomicUsize>,
    room: usize,
    /// A notification that is sent after the next one.
    kept: Option<String>,
    /// Whether the connection silently stops sending.
    dead: bool,
}

/// A step of the writer.
#[derive(Debug)]
enum Step {
    Send(Message),
    Wait(Duration),
}

/// The receiving half of the buffer.
#[derive(Debug)]
pub(super) struct FrameWriter {
    queue: UnboundedReceiver<Step>,
    waiting: Arc<AtomicUsize>,
}

/// A buffer of at most `room` bytes, and the writer that empties it into the socket.
pub(super) fn outgoing(room: usize) -> (Outgoing, FrameWriter) {
    let (sender, queue) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let outgoing = Outgoing { queue: sender, waiting: Arc::clone(&waiting), room, kept: None, dead: false };
    (outgoing, FrameWriter { queue, waiting })
}

impl Outgoing {
    /// Queues a frame.
    ///
    /// An empty buffer takes a frame of any size: its size says nothing about the client's speed.
    pub(super) fn send(&self, text: String) -> Result<(), SlowConsumer> {
        let waiting = self.waiting.load(Ordering::Relaxed);
        if waiting > 0 && waiting + text.len() > self.room {
            return Err(SlowConsumer);
        }
        self.push(text);
        Ok(())
    }

    /// Queues a notification, or what the fault makes of it.
    pub(super) fn notify(&mut self, text: String, fault: Option<InjectedFault>) -> Result<(), SlowConsumer> {
        let Some(fault) = fault else {
            self.send(text)?;
            return self.kept.take().map_or(Ok(()), |kept| self.send(kept));
        };
        let text = corrupt(text, fault);
        match fault.kind {
            FaultKind::Drop | FaultKind::Maintenance => {}
            FaultKind::Cut => return Err(SlowConsumer),
            FaultKind::HalfOpen => self.dead = true,
            FaultKind::Oversize => self.push(text),
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
                self.queue.send(Step::Wait(fault.lasts)).ok();
                self.send(text)?;
            }
            _ => self.send(text)?,
        }
        Ok(())
    }

    /// Whether the connection must look open without being served.
    pub(super) fn is_dead(&self) -> bool {
        self.dead
    }

    fn push(&self, text: String) {
        if self.dead {
            return;
        }
        self.waiting.fetch_add(text.len(), Ordering::Relaxed);
        // An error means that the socket is gone. The session notices it by reading.
        self.queue.send(Step::Send(Message::Text(text.into()))).ok();
    }

    /// Queues the close frame behind everything else.
    pub(super) fn close(&self, code: u16, reason: &'static str) {
        let last = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
        self.queue.send(Step::Send(last)).ok();
    }
}

impl FrameWriter {
    /// Writes until the sending half is dropped or the socket is gone.
    pub(super) async fn run(mut self, mut socket: SplitSink<WebSocket, Message>) {
        while let Some(step) = self.queue.recv().await {
            let message = match step {
                Step::Send(message) => message,
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
        assert_eq!(outgoing.send("x".into()), Err(SlowConsumer));
    }
}
