//! Keeps a websocket connection to the exchange, and reconnects until the event queue is closed.
//!
//! The connection runs the handshake itself. It passes trades and responses to the feed's requests on as they arrive.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::admin::Component;
use common::backoff::Backoff;
use common::clock::now_micros;
use common::{Failure, http};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::value::RawValue;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};
use url::Url;

use super::MAX_MESSAGE_BYTES;
use super::events::{ConnectionEvent, EventSender};
use super::handshake::{Credentials, Handshake, HandshakeProgress};
use super::message::{Frame, PLATFORM_STATE, RpcError, RpcErrorClass, is_notification, parse};
use super::rpc::RequestIds;
use crate::metrics::{ConnectionMetrics, gauged};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Bound for TCP, TLS and the websocket upgrade together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bound for the response to a request of the handshake, and for sending any request.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Heartbeats come every 10 s: a connection that is silent for this long is dead, whatever TCP says.
const SILENCE_MAX: Duration = Duration::from_secs(25);
/// The exchange accepts about three handshake requests a second.
const HANDSHAKE_INTERVAL: Duration = Duration::from_millis(350);
/// Time after which unknown channels are requested again.
const RESUBSCRIBE_AFTER: Duration = Duration::from_secs(30);
/// Requests of the feed that wait to be sent.
const REQUEST_QUEUE: usize = 64;

/// Why a connection ended.
#[derive(Debug)]
enum Disconnect {
    /// The event queue is closed.
    ShutdownRequested,
    /// `reason` is one of a few words, for the metric.
    Lost { reason: &'static str, detail: String },
    /// Only another configuration can help.
    Fatal(Failure),
}

impl Disconnect {
    fn lost(reason: &'static str, detail: impl std::fmt::Display) -> Self {
        Self::Lost { reason, detail: detail.to_string() }
    }
}

/// One of several connections side by side.
#[derive(Debug)]
pub(crate) struct ReconnectingConnection {
    /// Its number among all connections.
    pub(crate) connection: usize,
    pub(crate) url: Url,
    pub(crate) channels: Vec<String>,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) request_ids: RequestIds,
    /// Ready while any connection is subscribed.
    pub(crate) health: Component,
    /// Number of connections that are up; all connections share it.
    pub(crate) up: Arc<AtomicUsize>,
    pub(crate) metrics: ConnectionMetrics,
    pub(crate) events: EventSender,
}

impl ReconnectingConnection {
    /// Runs until the event queue is closed.
    ///
    /// # Errors
    /// [`Failure::Config`] if the exchange rejects the configuration.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        loop {
            let mut received_data = false;
            let end = tokio::select! {
                () = self.events.closed() => return Ok(()),
                end = self.connect_once(&mut received_data) => end,
            };
            let (reason, detail) = match end {
                Disconnect::ShutdownRequested => return Ok(()),
                Disconnect::Fatal(failure) => return Err(failure),
                Disconnect::Lost { reason, detail } => (reason, detail),
            };
            // Only data proves that a connection works; a handshake does not.
            if received_data {
                backoff.reset();
            }
            let delay = backoff.next_delay();
            self.metrics.lost(reason);
            if self.up.load(Ordering::Relaxed) == 0 {
                self.health.waiting(format!("{reason}: {detail}"));
            }
            tracing::warn!(reason, detail, retry_in = ?delay, url = %self.url, "no connection to the exchange");
            let lost = ConnectionEvent::Disconnected { connection: self.connection };
            if self.events.send(lost).await.is_err() {
                return Ok(());
            }
            tokio::select! {
                () = self.events.closed() => return Ok(()),
                () = tokio::time::sleep(delay) => {}
            }
        }
    }

    fn count_up(&self, by: isize) {
        let before = self.up.fetch_add(by.cast_unsigned(), Ordering::Relaxed);
        self.metrics.connections.set(gauged(before.wrapping_add_signed(by)));
    }

    async fn connect_once(&self, received_data: &mut bool) -> Disconnect {
        let mut socket = match connect(&self.url).await {
            Ok(socket) => socket,
            Err(end) => return end,
        };
        self.count_up(1);
        self.metrics.connected(self.connection, now_micros());
        let (requests, mut queued) = mpsc::channel(REQUEST_QUEUE);
        let mut channels = self.channels.clone();
        channels.push(PLATFORM_STATE.to_owned());
        let connection = OpenConnection {
            parent: self,
            handshake: Handshake::new(self.request_ids.clone(), &channels, self.credentials.clone()),
            waiting_since: None,
            received_at: Instant::now(),
            renew_login_at: None,
            missing: None,
            missing_reported: 0,
            requests: Some(requests),
            received_data,
        };
        let end = connection.run(&mut socket, &mut queued).await;
        self.count_up(-1);
        self.metrics.disconnected(self.connection);
        // The exchange would notice by itself, but later.
        timeout(Duration::from_secs(1), socket.close(None)).await.ok();
        end
    }
}

async fn connect(url: &Url) -> Result<Socket, Disconnect> {
    http::install_crypto();
    let settings = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    match timeout(CONNECT_TIMEOUT, connect_async_with_config(url.as_str(), Some(settings), true)).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(error)) => Err(Disconnect::lost("connect", error)),
        Err(_) => Err(Disconnect::lost("connect", format!("no connection within {CONNECT_TIMEOUT:?}"))),
    }
}

/// Channels that the exchange does not know.
struct MissingChannels {
    retry_at: Instant,
    names: Vec<String>,
}

struct OpenConnection<'a> {
    parent: &'a ReconnectingConnection,
    handshake: Handshake,
    /// Set while a handshake request has no response.
    waiting_since: Option<Instant>,
    received_at: Instant,
    renew_login_at: Option<Instant>,
    missing: Option<MissingChannels>,
    /// The number of missing channels that the feed knows.
    missing_reported: usize,
    /// Passed to the feed once everything is subscribed.
    requests: Option<mpsc::Sender<String>>,
    received_data: &'a mut bool,
}

impl OpenConnection<'_> {
    /// Runs until the connection ends. The order of the branches keeps it fair: at most one handshake request for each interval, then the
    /// feed's requests, which the exchange's credits bound, then reading.
    async fn run(mut self, socket: &mut Socket, queued: &mut mpsc::Receiver<String>) -> Disconnect {
        let mut handshake = interval(HANDSHAKE_INTERVAL);
        handshake.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let outcome = tokio::select! {
                biased;
                _ = handshake.tick() => self.advance_handshake(socket).await,
                request = queued.recv() => match request {
                    Some(request) => send(socket, request).await,
                    None if self.parent.events.is_closed() => Err(Disconnect::ShutdownRequested),
                    None => Err(Disconnect::lost("no_data", "no responses, or no trades although history has some")),
                },
                message = socket.next() => self.receive(socket, message).await,
            };
            if let Err(end) = outcome {
                return end;
            }
        }
    }

    /// Checks the timeouts and sends the next handshake request.
    async fn advance_handshake(&mut self, socket: &mut Socket) -> Result<(), Disconnect> {
        if self.received_at.elapsed() > SILENCE_MAX {
            return Err(Disconnect::lost("silent", format!("nothing received for {SILENCE_MAX:?}")));
        }
        if self.waiting_since.is_some_and(|since| since.elapsed() > RESPONSE_TIMEOUT) {
            return Err(Disconnect::lost("no_answer", format!("no response within {RESPONSE_TIMEOUT:?}")));
        }
        if self.renew_login_at.take_if(|at| Instant::now() >= *at).is_some() {
            self.handshake.renew_login();
        }
        if let Some(missing) = self.missing.take_if(|missing| Instant::now() >= missing.retry_at) {
            self.handshake.subscribe(&missing.names);
        }
        match self.handshake.next_request() {
            Some(request) => self.send_own(socket, request).await,
            None => Ok(()),
        }
    }

    async fn send_own(&mut self, socket: &mut Socket, request: String) -> Result<(), Disconnect> {
        self.waiting_since.get_or_insert_with(Instant::now);
        send(socket, request).await?;
        self.pass_on(ConnectionEvent::RequestSent).await
    }

    async fn receive(
        &mut self,
        socket: &mut Socket,
        message: Option<Result<Message, tungstenite::Error>>,
    ) -> Result<(), Disconnect> {
        let received_at = now_micros();
        self.received_at = Instant::now();
        match message {
            Some(Ok(Message::Text(text))) => self.receive_text(socket, text, received_at).await,
            Some(Ok(Message::Binary(bytes))) => {
                let why = "a binary frame".to_owned();
                self.pass_on(ConnectionEvent::Unparsable { bytes: bytes.to_vec(), why }).await
            }
            // The library answers pings.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(()),
            Some(Ok(Message::Close(Some(frame)))) => Err(Disconnect::lost("closed", frame)),
            Some(Ok(Message::Close(None))) => Err(Disconnect::lost("closed", "without a reason")),
            Some(Err(error)) => Err(Disconnect::lost("read", error)),
            None => Err(Disconnect::lost("closed", "the connection ended")),
        }
    }

    async fn receive_text(
        &mut self,
        socket: &mut Socket,
        text: Utf8Bytes,
        received_at: i64,
    ) -> Result<(), Disconnect> {
        let connection = self.parent.connection;
        if is_notification(&text) {
            *self.received_data = true;
            return self.pass_on(ConnectionEvent::Frame { connection, text, received_at }).await;
        }
        match parse(&text, received_at) {
            Ok(Frame::TestRequest) => {
                let answer = self.handshake.answer_test_request();
                self.send_own(socket, answer).await
            }
            Ok(Frame::Response { id: Some(id), outcome }) if self.handshake.expects(id) => {
                self.on_response(id, outcome)?;
                self.report_subscriptions().await
            }
            Ok(Frame::Trades(_) | Frame::Maintenance | Frame::Response { id: Some(_), .. }) => {
                self.pass_on(ConnectionEvent::Frame { connection, text, received_at }).await
            }
            Ok(Frame::Response { id: None, outcome: Err(error) }) => Err(Disconnect::lost("refused", error)),
            Ok(Frame::Heartbeat | Frame::Other | Frame::Response { .. }) => Ok(()),
            Err(error) => {
                let (bytes, why) = (text.as_bytes().to_vec(), error.to_string());
                self.pass_on(ConnectionEvent::Unparsable { bytes, why }).await
            }
        }
    }

    async fn pass_on(&self, event: ConnectionEvent) -> Result<(), Disconnect> {
        self.parent.events.send(event).await.map_err(|_| Disconnect::ShutdownRequested)
    }

    /// Tells the feed once every subscription is answered, and when the number of missing channels has changed.
    async fn report_subscriptions(&mut self) -> Result<(), Disconnect> {
        if !self.handshake.is_subscribed() {
            return Ok(());
        }
        let connection = self.parent.connection;
        if let Some(requests) = self.requests.take() {
            self.pass_on(ConnectionEvent::Subscribed { connection, requests }).await?;
        }
        let channels = self.missing.as_ref().map_or(0, |missing| missing.names.len());
        if channels != self.missing_reported {
            self.missing_reported = channels;
            self.pass_on(ConnectionEvent::UnsubscribedChannels { connection, channels }).await?;
        }
        Ok(())
    }

    fn on_response(&mut self, id: u64, outcome: Result<&RawValue, RpcError>) -> Result<(), Disconnect> {
        let progress = self.handshake.on_response(id, outcome);
        self.waiting_since = self.handshake.is_waiting().then(Instant::now);
        match progress {
            Ok(HandshakeProgress::None) => {}
            Ok(HandshakeProgress::LoggedIn(renew_in)) => {
                self.renew_login_at = Some(Instant::now() + renew_in);
            }
            Ok(HandshakeProgress::Subscribed { accepted, missing }) => self.on_subscribed(accepted, missing),
            Err(rejected) if rejected.error.class() == RpcErrorClass::Misconfigured => {
                return Err(Disconnect::Fatal(Failure::Config(format!(
                    "the exchange rejects {rejected}; check deribit.channels, .client_id and .client_secret_file"
                ))));
            }
            Err(rejected) => return Err(Disconnect::lost("refused", rejected)),
        }
        Ok(())
    }

    fn on_subscribed(&mut self, accepted: usize, mut missing: Vec<String>) {
        let parent = self.parent;
        // Error responses announce maintenance too, so this channel may be missing.
        missing.retain(|channel| channel != PLATFORM_STATE);
        if missing.is_empty() {
            tracing::info!(accepted, url = %parent.url, "subscribed");
        } else {
            tracing::error!(accepted, ?missing, "the exchange does not know some channels");
            let retry_at = Instant::now() + RESUBSCRIBE_AFTER;
            let all = self.missing.get_or_insert_with(|| MissingChannels { retry_at, names: Vec::new() });
            all.names.extend(missing);
        }
        let missing = self.missing.as_ref().map_or(&[][..], |missing| &missing.names);
        parent.metrics.unsubscribed_channels.set(gauged(missing.len()));
        if self.handshake.is_subscribed() {
            if missing.is_empty() {
                parent.health.ready();
            } else {
                parent.health.waiting(format!("the exchange does not know {}", missing.join(", ")));
            }
        }
    }
}

async fn send(socket: &mut Socket, request: String) -> Result<(), Disconnect> {
    match timeout(RESPONSE_TIMEOUT, socket.send(Message::text(request))).await {
        Ok(sent) => sent.map_err(|error| Disconnect::lost("send", error)),
        Err(_) => Err(Disconnect::lost("send", format!("not sent within {RESPONSE_TIMEOUT:?}"))),
    }
}
