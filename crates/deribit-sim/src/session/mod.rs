//! A websocket connection.

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
use crate::feed::{Batch, Published};
use crate::limits::Ticket;
use crate::protocol::{Id, Interval, Request, RpcError, heartbeat, maintenance};

use keepalive::{Due, KeepAlive};
use outgoing::{Outgoing, TooSlow, outgoing};
use subscriptions::Subscriptions;

/// The longest frame that is read as a request.
const LONGEST_FRAME: usize = 32 * 1024;

/// How long the last word may take to reach a client that does not read.
const GOODBYE: Duration = Duration::from_secs(1);

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The client hung up, or its connection broke.
    Gone,
    /// What waits for the client does not fit.
    TooSlow,
    /// A test request was not answered.
    Unanswered,
    /// Nothing was said.
    Idle,
    /// The credits were used up.
    TooManyRequests,
    /// The exchange stops.
    Stopping,
}

impl End {
    /// What is said at the end; nothing to one who is gone or does not read.
    const fn goodbye(self) -> Option<(u16, &'static str)> {
        match self {
            Self::Gone | Self::TooSlow => None,
            Self::Unanswered => Some((4000, "heartbeat_timeout")),
            Self::Idle => Some((4000, "idle")),
            Self::TooManyRequests => Some((1008, "too_many_requests")),
            Self::Stopping => Some((1001, "going_away")),
        }
    }
}

impl From<TooSlow> for End {
    fn from(_: TooSlow) -> Self {
        Self::TooSlow
    }
}

/// A connection's state.
struct Session {
    exchange: Arc<Exchange>,
    address: IpAddr,
    outgoing: Outgoing,
    alive: KeepAlive,
    subscriptions: Subscriptions,
    /// Receivers of the intervals that are subscribed to.
    raw: Option<Receiver<Batch>>,
    bundles: Option<Receiver<Batch>>,
    seconds: Option<Receiver<Batch>>,
    /// Until when it is logged in.
    logged_in: Option<Instant>,
    /// Whether the client was told of maintenance last.
    in_maintenance: bool,
}

/// What the session waits for.
enum Event {
    Said(Option<Message>),
    Batch(Interval, Result<Batch, RecvError>),
    Deadline,
    Stopping,
}

/// Serves a connection until its end.
pub(crate) async fn serve(exchange: Arc<Exchange>, socket: WebSocket, ticket: Ticket) {
    let (sink, stream) = socket.split();
    let (outgoing, writer) = outgoing(exchange.limits.send_buffer);
    let mut writing = tokio::spawn(writer.run(sink));
    let meters = exchange.meters.clone();
    meters.connections.inc();
    let end = Session::new(exchange, ticket.address(), outgoing).run(stream).await;
    tracing::debug!(?end, address = %ticket.address(), "a session ended");
    if end == End::TooSlow {
        meters.slow_readers.inc();
    } else {
        // The session is gone and the way out with it, so the writer ends after the last word.
        tokio::time::timeout(GOODBYE, &mut writing).await.ok();
    }
    writing.abort();
    meters.connections.dec();
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

    async fn run(mut self, mut stream: SplitStream<WebSocket>) -> End {
        let end = loop {
            let event = self.next(&mut stream).await;
            if let Err(end) = self.handle(event) {
                break end;
            }
            if self.outgoing.is_dead() {
                break self.play_dead(&mut stream).await;
            }
        };
        if let Some((code, reason)) = end.goodbye() {
            self.outgoing.close(code, reason);
        }
        end
    }

    /// A half-open connection: nothing is heard on it any more, until the other side gives it up.
    async fn play_dead(&self, stream: &mut SplitStream<WebSocket>) -> End {
        tokio::select! {
            () = self.exchange.stopping.cancelled() => End::Stopping,
            () = async { while let Some(Ok(_)) = stream.next().await {} } => End::Gone,
        }
    }

    /// The one await point. The order says that a client with much to ask cannot hold up its own feed: what is already due is
    /// sent first.
    async fn next(&mut self, stream: &mut SplitStream<WebSocket>) -> Event {
        let deadline = tokio::time::Instant::from_std(self.alive.deadline());
        tokio::select! {
            biased;
            () = self.exchange.stopping.cancelled() => Event::Stopping,
            () = tokio::time::sleep_until(deadline) => Event::Deadline,
            batch = receive(&mut self.raw) => Event::Batch(Interval::Raw, batch),
            batch = receive(&mut self.bundles) => Event::Batch(Interval::Bundle, batch),
            batch = receive(&mut self.seconds) => Event::Batch(Interval::Second, batch),
            said = stream.next() => Event::Said(said.and_then(Result::ok)),
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Stopping => Err(End::Stopping),
            Event::Deadline => self.deadline(),
            Event::Batch(interval, Ok(batch)) => self.notify(interval, &batch),
            Event::Batch(_, Err(RecvError::Lagged(_))) => Err(End::TooSlow),
            Event::Batch(_, Err(RecvError::Closed)) => Err(End::Stopping),
            Event::Said(None | Some(Message::Close(_))) => Err(End::Gone),
            Event::Said(Some(Message::Text(text))) => self.hear(&text),
            Event::Said(Some(Message::Binary(bytes))) => match std::str::from_utf8(&bytes) {
                Ok(text) => self.hear(text),
                Err(_) => self.reply(
                    &Id::NONE,
                    &Err(RpcError::unparsable("not UTF-8")),
                    self.exchange.clock.now_micros(),
                ),
            },
            Event::Said(Some(Message::Ping(_) | Message::Pong(_))) => {
                self.alive.said(Instant::now());
                Ok(())
            }
        }
    }

    fn deadline(&mut self) -> Result<(), End> {
        match self.alive.due(Instant::now()) {
            Due::Nothing => Ok(()),
            Due::Unanswered => Err(End::Unanswered),
            Due::Idle => Err(End::Idle),
            Due::Heartbeat => {
                self.outgoing.send(heartbeat("heartbeat"))?;
                Ok(self.outgoing.send(heartbeat("test_request"))?)
            }
        }
    }

    fn notify(&mut self, interval: Interval, batch: &Batch) -> Result<(), End> {
        match interval {
            Interval::Raw => {
                let same = |a: &Arc<Published>, b: &Arc<Published>| {
                    (a.trade.timestamp, &a.trade.instrument_name)
                        == (b.trade.timestamp, &b.trade.instrument_name)
                };
                batch.chunk_by(same).try_for_each(|order| self.notify_of(interval, order))
            }
            Interval::Bundle | Interval::Second => self.notify_of(interval, batch),
        }
    }

    fn notify_of(&mut self, interval: Interval, trades: &[Arc<Published>]) -> Result<(), End> {
        let notifications = self.subscriptions.notifications(interval, trades.iter().map(AsRef::as_ref));
        if !notifications.is_empty() {
            self.alive.said(Instant::now());
        }
        for notification in notifications {
            let blow = self.exchange.trouble.at(Occasion::Notification(notification.trades));
            self.tell_of_maintenance(blow.is_some_and(|blow| blow.kind == FaultKind::Maintenance))?;
            self.outgoing.notify(notification.text, blow)?;
            self.exchange.meters.notifications.inc();
        }
        Ok(())
    }

    /// Says that maintenance begins, or is over.
    fn tell_of_maintenance(&mut self, now: bool) -> Result<(), End> {
        let news = self.in_maintenance != now && self.subscriptions.want_news();
        self.in_maintenance = now;
        if news {
            self.outgoing.send(maintenance(now))?;
        }
        Ok(())
    }

    /// Answers what the client says.
    fn hear(&mut self, text: &str) -> Result<(), End> {
        self.alive.said(Instant::now());
        let came = self.exchange.clock.now_micros();
        if text.len() > LONGEST_FRAME {
            let error = RpcError::invalid_request("a frame must not be larger than 32 kB");
            return self.reply(&Id::NONE, &Err(error), came);
        }
        match Request::parse(text) {
            Err((id, error)) => self.reply(&id, &Err(error), came),
            Ok(request) => {
                let paid = self.exchange.pay(&request.method, (self.address, self.is_logged_in()));
                let recall = paid.and_then(|()| self.exchange.recall(&request.method));
                let ends = recall.as_ref().is_err_and(RpcError::ends_the_session);
                let outcome = recall.and_then(|how| self.call(&request, how));
                self.reply(&request.id, &outcome, came)?;
                if ends { Err(End::TooManyRequests) } else { Ok(()) }
            }
        }
    }

    fn reply(&mut self, id: &Id, outcome: &Result<String, RpcError>, came: u64) -> Result<(), End> {
        self.exchange.meters.calls.inc();
        if outcome.is_err() {
            self.exchange.meters.errors.inc();
        }
        let reply = id.reply(outcome, (came, self.exchange.clock.now_micros()));
        Ok(self.outgoing.send(reply)?)
    }

    fn is_logged_in(&self) -> bool {
        self.logged_in.is_some_and(|until| Instant::now() < until)
    }
}

/// The next batch; never, if there is no subscription of that interval.
async fn receive(receiver: &mut Option<Receiver<Batch>>) -> Result<Batch, RecvError> {
    match receiver {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}
