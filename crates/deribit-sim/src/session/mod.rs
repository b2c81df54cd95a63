//! A websocket session.

mod calls;
mod keepalive;
mod outgoing;
mod subscriptions;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::ws::{Message, WebSocket};
use futures_util::StreamExt as _;
use futures_util::stream::SplitStream;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::exchange::Exchange;
use crate::faults::{FaultKind, Occasion};
use crate::feed::{FeedBatch, FeedTrade};
use crate::limits::ConnectionGuard;
use crate::protocol::{Interval, ProtocolError, RequestId, RpcRequest, heartbeat, maintenance};

use keepalive::{KeepAlive, KeepAliveAction};
use outgoing::{Outgoing, SlowConsumer, outgoing};
use subscriptions::Subscriptions;

/// Bytes of the largest request frame.
const MAX_REQUEST_BYTES: usize = 32 * 1024;

/// How long the close frame may take to reach a client that does not read.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SessionEnd {
    /// The client hung up, or its connection broke.
    Gone,
    /// The client reads too slowly: its send buffer is full.
    SlowConsumer,
    /// A test request was not answered.
    Unanswered,
    /// No message in either direction for too long.
    Idle,
    /// The client has no credits left.
    TooManyRequests,
    /// The exchange shuts down.
    Stopping,
}

impl SessionEnd {
    /// Code and reason of the close frame; none if the client is gone or does not read.
    const fn close_frame(self) -> Option<(u16, &'static str)> {
        match self {
            Self::Gone | Self::SlowConsumer => None,
            Self::Unanswered => Some((4000, "heartbeat_timeout")),
            Self::Idle => Some((4000, "idle")),
            Self::TooManyRequests => Some((1008, "too_many_requests")),
            Self::Stopping => Some((1001, "going_away")),
        }
    }
}

impl From<SlowConsumer> for SessionEnd {
    fn from(_: SlowConsumer) -> Self {
        Self::SlowConsumer
    }
}

/// The state of a session.
struct Session {
    exchange: Arc<Exchange>,
    address: IpAddr,
    outgoing: Outgoing,
    alive: KeepAlive,
    subscriptions: Subscriptions,
    /// Receivers of the intervals that are subscribed to.
    raw: Option<Receiver<FeedBatch>>,
    bundles: Option<Receiver<FeedBatch>>,
    seconds: Option<Receiver<FeedBatch>>,
    /// When the login expires.
    logged_in: Option<Instant>,
    /// Whether the last maintenance notification was that it has begun.
    in_maintenance: bool,
}

/// An event that the session handles.
enum SessionEvent {
    Received(Option<Message>),
    Batch(Interval, Result<FeedBatch, RecvError>),
    Deadline,
    Stopping,
}

/// Serves a connection until it ends.
pub(crate) async fn serve(exchange: Arc<Exchange>, socket: WebSocket, guard: ConnectionGuard) {
    let (sink, stream) = socket.split();
    let (outgoing, writer) = outgoing(exchange.limits.send_buffer);
    let mut writing = tokio::spawn(writer.run(sink));
    let metrics = exchange.metrics.clone();
    metrics.connections.inc();
    let end = Session::new(exchange, guard.address(), outgoing).run(stream).await;
    tracing::debug!(?end, address = %guard.address(), "session ended");
    if end == SessionEnd::SlowConsumer {
        metrics.slow_consumers_disconnected.inc();
    } else {
        // The session has dropped its sender, so the writer ends after the close frame.
        tokio::time::timeout(CLOSE_WITHIN, &mut writing).await.ok();
    }
    writing.abort();
    metrics.connections.dec();
}

impl Session {
    fn new(exchange: Arc<Exchange>, address: IpAddr, outgoing: Outgoing) -> Self {
        let limits = &exchange.limits;
        let alive = KeepAlive::new(*limits.heartbeat_answer, *limits.idle, Instant::now());
        Self {
            exchange,
            address,
            outgoing,
            alive,
            subscriptions: Subscriptions::default(),
            raw: None,
            bundles: None,
            seconds: None,
            logged_in: None,
            in_maintenance: false,
        }
    }

    async fn run(mut self, mut stream: SplitStream<WebSocket>) -> SessionEnd {
        let end = loop {
            let event = self.next(&mut stream).await;
            if let Err(end) = self.handle(event) {
                break end;
            }
            if self.outgoing.is_dead() {
                break self.ignore_everything(&mut stream).await;
            }
        };
        if let Some((code, reason)) = end.close_frame() {
            self.outgoing.close(code, reason);
        }
        end
    }

    /// A half-open connection: it ignores every message until the client closes it.
    async fn ignore_everything(&self, stream: &mut SplitStream<WebSocket>) -> SessionEnd {
        tokio::select! {
            () = self.exchange.stopping.cancelled() => SessionEnd::Stopping,
            () = async { while let Some(Ok(_)) = stream.next().await {} } => SessionEnd::Gone,
        }
    }

    /// The one await point. Its order keeps a client with many requests from delaying its own feed: batches that are due go first.
    async fn next(&mut self, stream: &mut SplitStream<WebSocket>) -> SessionEvent {
        let deadline = tokio::time::Instant::from_std(self.alive.deadline());
        tokio::select! {
            biased;
            () = self.exchange.stopping.cancelled() => SessionEvent::Stopping,
            () = tokio::time::sleep_until(deadline) => SessionEvent::Deadline,
            batch = receive(&mut self.raw) => SessionEvent::Batch(Interval::Raw, batch),
            batch = receive(&mut self.bundles) => SessionEvent::Batch(Interval::Bundle, batch),
            batch = receive(&mut self.seconds) => SessionEvent::Batch(Interval::Second, batch),
            received = stream.next() => SessionEvent::Received(received.and_then(Result::ok)),
        }
    }

    fn handle(&mut self, event: SessionEvent) -> Result<(), SessionEnd> {
        match event {
            SessionEvent::Stopping => Err(SessionEnd::Stopping),
            SessionEvent::Deadline => self.on_deadline(),
            SessionEvent::Batch(interval, Ok(batch)) => self.notify(interval, &batch),
            SessionEvent::Batch(_, Err(RecvError::Lagged(_))) => Err(SessionEnd::SlowConsumer),
            SessionEvent::Batch(_, Err(RecvError::Closed)) => Err(SessionEnd::Stopping),
            SessionEvent::Received(None | Some(Message::Close(_))) => Err(SessionEnd::Gone),
            SessionEvent::Received(Some(Message::Text(text))) => self.on_request(&text),
            SessionEvent::Received(Some(Message::Binary(bytes))) => match std::str::from_utf8(&bytes) {
                Ok(text) => self.on_request(text),
                Err(_) => self.reply(
                    &RequestId::NONE,
                    &Err(ProtocolError::unparsable("not UTF-8")),
                    self.exchange.clock.now_micros(),
                ),
            },
            SessionEvent::Received(Some(Message::Ping(_) | Message::Pong(_))) => {
                self.alive.on_message(Instant::now());
                Ok(())
            }
        }
    }

    fn on_deadline(&mut self) -> Result<(), SessionEnd> {
        match self.alive.due(Instant::now()) {
            KeepAliveAction::Nothing => Ok(()),
            KeepAliveAction::Unanswered => Err(SessionEnd::Unanswered),
            KeepAliveAction::Idle => Err(SessionEnd::Idle),
            KeepAliveAction::Heartbeat => {
                self.outgoing.send(heartbeat("heartbeat"))?;
                Ok(self.outgoing.send(heartbeat("test_request"))?)
            }
        }
    }

    fn notify(&mut self, interval: Interval, batch: &FeedBatch) -> Result<(), SessionEnd> {
        match interval {
            Interval::Raw => {
                let same = |a: &Arc<FeedTrade>, b: &Arc<FeedTrade>| {
                    (a.trade.timestamp, &a.trade.instrument_name)
                        == (b.trade.timestamp, &b.trade.instrument_name)
                };
                batch.chunk_by(same).try_for_each(|order| self.notify_of(interval, order))
            }
            Interval::Bundle | Interval::Second => self.notify_of(interval, batch),
        }
    }

    fn notify_of(&mut self, interval: Interval, trades: &[Arc<FeedTrade>]) -> Result<(), SessionEnd> {
        let notifications = self.subscriptions.notifications(interval, trades.iter().map(AsRef::as_ref));
        if !notifications.is_empty() {
            self.alive.on_message(Instant::now());
        }
        for notification in notifications {
            let fault = self.exchange.injector.at(Occasion::Notification(notification.trades));
            self.notify_maintenance(fault.is_some_and(|fault| fault.kind == FaultKind::Maintenance))?;
            self.outgoing.notify(notification.text, fault)?;
            self.exchange.metrics.notifications.inc();
        }
        Ok(())
    }

    /// Sends a notification when maintenance begins or ends.
    fn notify_maintenance(&mut self, now: bool) -> Result<(), SessionEnd> {
        let is_news = self.in_maintenance != now && self.subscriptions.wants_maintenance_news();
        self.in_maintenance = now;
        if is_news {
            self.outgoing.send(maintenance(now))?;
        }
        Ok(())
    }

    /// Answers a request frame.
    fn on_request(&mut self, text: &str) -> Result<(), SessionEnd> {
        self.alive.on_message(Instant::now());
        let received_at = self.exchange.clock.now_micros();
        if text.len() > MAX_REQUEST_BYTES {
            let error = ProtocolError::invalid_request("a frame must not be larger than 32 kB");
            return self.reply(&RequestId::NONE, &Err(error), received_at);
        }
        match RpcRequest::parse(text) {
            Err((id, error)) => self.reply(&id, &Err(error), received_at),
            Ok(request) => {
                let paid = self.exchange.charge(&request.method, self.address, self.is_logged_in());
                let history_fault = paid.and_then(|()| self.exchange.history_fault(&request.method));
                let ends = history_fault.as_ref().is_err_and(ProtocolError::ends_the_session);
                let outcome = history_fault.and_then(|fault| self.call(&request, fault));
                self.reply(&request.id, &outcome, received_at)?;
                if ends { Err(SessionEnd::TooManyRequests) } else { Ok(()) }
            }
        }
    }

    fn reply(
        &mut self,
        id: &RequestId,
        outcome: &Result<String, ProtocolError>,
        received_at: u64,
    ) -> Result<(), SessionEnd> {
        self.exchange.metrics.calls.inc();
        if outcome.is_err() {
            self.exchange.metrics.errors.inc();
        }
        let reply = id.reply(outcome, received_at, self.exchange.clock.now_micros());
        Ok(self.outgoing.send(reply)?)
    }

    fn is_logged_in(&self) -> bool {
        self.logged_in.is_some_and(|until| Instant::now() < until)
    }
}

/// The next batch; pending forever without a subscription of that interval.
async fn receive(receiver: &mut Option<Receiver<FeedBatch>>) -> Result<FeedBatch, RecvError> {
    match receiver {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}
