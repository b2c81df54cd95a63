//! One connection to the exchange after another, until nobody listens any more.
//!
//! The conversation that keeps a connection is held here; what it is kept for (trades, answers to questions about history) is passed
//! on as it came.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::admin::Part;
use common::backoff::Backoff;
use common::{Failure, http};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};
use url::Url;

use super::events::{self, ConnectionEvent};
use super::handshake::{Credentials, Handshake, HandshakeProgress};
use super::message::{Frame, PLATFORM_STATE, RpcErrorClass, is_notification, parse};
use crate::clock::now_micros;
use crate::metrics::{ConnectionMetrics, gauged};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Connecting, TLS and upgrade included, takes at most this long.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// An answer takes at most this long.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// With a heartbeat every 10 s, a connection that is silent for this long is dead, whatever TCP says.
const SILENT_AT_MOST: Duration = Duration::from_secs(25);
/// The exchange takes about three requests a second.
const PACE: Duration = Duration::from_millis(350);
/// Channels that the exchange does not know are asked for again after this time.
const MISSING_AGAIN: Duration = Duration::from_secs(30);
/// The largest message taken; bursts of hundreds of trades are far below.
pub(crate) const LARGEST_MESSAGE: usize = 16 * 1024 * 1024;

/// Why a connection ended.
#[derive(Debug)]
enum Disconnect {
    /// Nobody listens any more.
    ShutdownRequested,
    /// It was lost; `reason` is one of a few, for the metric.
    Lost { reason: &'static str, detail: String },
    /// Only another configuration will do.
    Fatal(Failure),
}

impl Disconnect {
    fn problem(reason: &'static str, detail: impl std::fmt::Display) -> Self {
        Self::Lost { reason, detail: detail.to_string() }
    }
}

/// Questions of others have numbers from here on; the conversation's own stay below.
pub(crate) const FIRST_QUESTION: u64 = 1 << 32;
/// Questions that wait to be sent.
const QUESTIONS: usize = 64;

/// What connections need.
#[derive(Debug)]
pub(crate) struct ReconnectingConnection {
    /// Which of several this is.
    pub(crate) connection: usize,
    /// Where the exchange is.
    pub(crate) url: Url,
    /// What to subscribe to.
    pub(crate) channels: Vec<String>,
    /// Whom to log in as, if anybody.
    pub(crate) credentials: Option<Credentials>,
    /// Ready while one of the connections is subscribed.
    pub(crate) part: Part,
    /// Connections that are up, of all that stand side by side.
    pub(crate) up: Arc<AtomicUsize>,
    /// What happens to connections.
    pub(crate) metrics: ConnectionMetrics,
    /// Where everything goes; while it is full, the socket is not read.
    pub(crate) events: events::EventSender,
}

impl ReconnectingConnection {
    /// Keeps a connection until nobody listens any more.
    ///
    /// # Errors
    /// [`Failure::Config`] if the exchange says that only another configuration will do.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        loop {
            let mut proved = false;
            let end = tokio::select! {
                () = self.events.closed() => return Ok(()),
                end = self.session(&mut proved) => end,
            };
            let (reason, detail) = match end {
                Disconnect::ShutdownRequested => return Ok(()),
                Disconnect::Fatal(failure) => return Err(failure),
                Disconnect::Lost { reason, detail } => (reason, detail),
            };
            // Only data proves a connection; a handshake alone does not.
            if proved {
                backoff.reset();
            }
            let delay = backoff.next_delay();
            self.metrics.lost(reason);
            if self.up.load(Ordering::Relaxed) == 0 {
                self.part.waiting(format!("{reason}: {detail}"));
            }
            tracing::warn!(reason, detail, retry_in = ?delay, url = %self.url, "no connection to the exchange");
            if self.events.send(ConnectionEvent::Down { connection: self.connection }).await.is_err() {
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
        self.metrics.connections.set(i64::try_from(before).unwrap_or(0) + i64::try_from(by).unwrap_or(0));
    }

    async fn session(&self, proved: &mut bool) -> Disconnect {
        let mut socket = match connect(&self.url).await {
            Ok(socket) => socket,
            Err(end) => return end,
        };
        self.count_up(1);
        self.metrics.connected(self.connection, now_micros());
        let (ask, mut questions) = mpsc::channel(QUESTIONS);
        let mut channels = self.channels.clone();
        channels.push(PLATFORM_STATE.to_owned());
        let connection = Connection {
            sessions: self,
            talk: Handshake::new(&channels, self.credentials.clone()),
            asked_at: None,
            heard_at: Instant::now(),
            log_in_at: None,
            missing: None,
            told_missing: 0,
            ask: Some(ask),
            proved,
        };
        let end = connection.run(&mut socket, &mut questions).await;
        self.count_up(-1);
        self.metrics.disconnected(self.connection);
        // A courtesy: the exchange would notice by itself.
        timeout(Duration::from_secs(1), socket.close(None)).await.ok();
        end
    }
}

async fn connect(url: &Url) -> Result<Socket, Disconnect> {
    http::install_crypto();
    let settings = WebSocketConfig::default()
        .max_message_size(Some(LARGEST_MESSAGE))
        .max_frame_size(Some(LARGEST_MESSAGE));
    match timeout(CONNECT_WITHIN, connect_async_with_config(url.as_str(), Some(settings), true)).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(error)) => Err(Disconnect::problem("connect", error)),
        Err(_) => Err(Disconnect::problem("connect", format!("no connection within {CONNECT_WITHIN:?}"))),
    }
}

/// One connection that is up.
struct Connection<'a> {
    sessions: &'a ReconnectingConnection,
    talk: Handshake,
    /// When the oldest question without an answer was asked.
    asked_at: Option<Instant>,
    heard_at: Instant,
    log_in_at: Option<Instant>,
    /// Channels that the exchange did not know, and when to ask for them again.
    missing: Option<(Instant, Vec<String>)>,
    /// How many of them were passed on.
    told_missing: usize,
    /// Given away once everything is subscribed.
    ask: Option<mpsc::Sender<String>>,
    proved: &'a mut bool,
}

impl Connection<'_> {
    /// The loop. Its order is what keeps it fair: at most one request of our own each [`PACE`], then questions, of which the exchange's
    /// credits bound the number, and everything else is reading.
    async fn run(mut self, socket: &mut Socket, questions: &mut mpsc::Receiver<String>) -> Disconnect {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let turn = tokio::select! {
                biased;
                _ = pace.tick() => self.speak(socket).await,
                question = questions.recv() => match question {
                    Some(question) => self.send(socket, question).await,
                    None if self.sessions.events.is_closed() => Err(Disconnect::ShutdownRequested),
                    None => Err(Disconnect::problem("no_data", "no answers, or no data though history has some")),
                },
                message = socket.next() => self.listen(socket, message).await,
            };
            if let Err(end) = turn {
                return end;
            }
        }
    }

    /// Says the next thing there is to say, and notices what should have been heard by now.
    async fn speak(&mut self, socket: &mut Socket) -> Result<(), Disconnect> {
        if self.heard_at.elapsed() > SILENT_AT_MOST {
            return Err(Disconnect::problem("silent", format!("nothing heard for {SILENT_AT_MOST:?}")));
        }
        if self.asked_at.is_some_and(|asked| asked.elapsed() > ANSWER_WITHIN) {
            return Err(Disconnect::problem("no_answer", format!("no answer within {ANSWER_WITHIN:?}")));
        }
        if self.log_in_at.is_some_and(|at| Instant::now() >= at) {
            self.log_in_at = None;
            self.talk.log_in_again();
        }
        if let Some((_, missing)) = self.missing.take_if(|(at, _)| Instant::now() >= *at) {
            self.talk.subscribe_again(&missing);
        }
        match self.talk.next_request() {
            Some(request) => self.say(socket, request).await,
            None => Ok(()),
        }
    }

    async fn say(&mut self, socket: &mut Socket, request: String) -> Result<(), Disconnect> {
        self.asked_at.get_or_insert_with(Instant::now);
        self.send(socket, request).await?;
        self.pass_on(ConnectionEvent::Called).await
    }

    async fn send(&mut self, socket: &mut Socket, request: String) -> Result<(), Disconnect> {
        match timeout(ANSWER_WITHIN, socket.send(Message::text(request))).await {
            Ok(sent) => sent.map_err(|error| Disconnect::problem("send", error)),
            Err(_) => Err(Disconnect::problem(
                "send",
                format!("a request could not be sent within {ANSWER_WITHIN:?}"),
            )),
        }
    }

    async fn listen(
        &mut self,
        socket: &mut Socket,
        message: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>,
    ) -> Result<(), Disconnect> {
        let received_at = now_micros();
        self.heard_at = Instant::now();
        let text = match message {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Close(frame))) => {
                return Err(Disconnect::problem(
                    "closed",
                    frame.map_or("without a reason".into(), |frame| frame.to_string()),
                ));
            }
            Some(Ok(Message::Binary(bytes))) => {
                return self
                    .pass_on(ConnectionEvent::Garbage { bytes: bytes.to_vec(), why: "a binary frame".into() })
                    .await;
            }
            // The library answers pings by itself.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => return Ok(()),
            Some(Err(error)) => return Err(Disconnect::problem("read", error)),
            None => return Err(Disconnect::problem("closed", "the connection ended")),
        };
        if is_notification(&text) {
            *self.proved = true;
            return self
                .pass_on(ConnectionEvent::Frame { connection: self.sessions.connection, text, received_at })
                .await;
        }
        match parse(&text, received_at) {
            Ok(Frame::TestRequest) => {
                let answer = self.talk.test();
                self.say(socket, answer).await
            }
            Ok(Frame::Trades(_) | Frame::Maintenance)
            | Ok(Frame::Response { id: Some(FIRST_QUESTION..), .. }) => {
                self.pass_on(ConnectionEvent::Frame {
                    connection: self.sessions.connection,
                    text,
                    received_at,
                })
                .await
            }
            Ok(Frame::Response { id: Some(id), outcome }) => {
                self.answer(id, outcome)?;
                self.up().await
            }
            Ok(Frame::Response { id: None, outcome: Err(error) }) => {
                Err(Disconnect::problem("refused", error))
            }
            Ok(Frame::Heartbeat | Frame::Other | Frame::Response { .. }) => Ok(()),
            Err(error) => {
                let bytes = text.as_bytes().to_vec();
                self.pass_on(ConnectionEvent::Garbage { bytes, why: error.to_string() }).await
            }
        }
    }

    async fn pass_on(&self, event: ConnectionEvent) -> Result<(), Disconnect> {
        self.sessions.events.send(event).await.map_err(|_| Disconnect::ShutdownRequested)
    }

    /// Once every channel has been answered for.
    async fn up(&mut self) -> Result<(), Disconnect> {
        if !self.talk.is_subscribed() {
            return Ok(());
        }
        let connection = self.sessions.connection;
        if let Some(questions) = self.ask.take() {
            self.pass_on(ConnectionEvent::Up { connection, questions }).await?;
        }
        let channels = self.missing.as_ref().map_or(0, |(_, missing)| missing.len());
        if channels != self.told_missing {
            self.told_missing = channels;
            self.pass_on(ConnectionEvent::Missing { connection, channels }).await?;
        }
        Ok(())
    }

    fn answer(
        &mut self,
        id: u64,
        outcome: Result<&serde_json::value::RawValue, super::message::RpcError>,
    ) -> Result<(), Disconnect> {
        let progress = self.talk.answer(id, outcome);
        self.asked_at = self.talk.waits().then(Instant::now);
        match progress {
            Ok(HandshakeProgress::None) => {}
            Ok(HandshakeProgress::LoggedIn(renew_in)) => self.log_in_at = Some(Instant::now() + renew_in),
            Ok(HandshakeProgress::Subscribed { accepted, missing }) => self.subscribed(accepted, missing),
            Err((method, error)) if error.remedy() == RpcErrorClass::Reconfigure => {
                return Err(Disconnect::Fatal(Failure::Config(format!(
                    "the exchange refuses {method}: {error}; check deribit.channels, .client_id and .client_secret_file"
                ))));
            }
            Err((method, error)) => return Err(Disconnect::problem("refused", format!("{method}: {error}"))),
        }
        Ok(())
    }

    fn subscribed(&mut self, accepted: usize, mut missing: Vec<String>) {
        let sessions = self.sessions;
        // Maintenance shows by errors too; the news of it are a convenience.
        missing.retain(|channel| channel != PLATFORM_STATE);
        if missing.is_empty() {
            tracing::info!(accepted, url = %sessions.url, "subscribed");
        } else {
            tracing::error!(accepted, ?missing, "the exchange does not know some channels");
            let (_, all) = self.missing.get_or_insert_with(|| (Instant::now() + MISSING_AGAIN, Vec::new()));
            all.extend(missing);
        }
        let missing = self.missing.as_ref().map_or(&[][..], |(_, missing)| missing);
        sessions.metrics.unsubscribed_channels.set(gauged(missing.len()));
        if self.talk.is_subscribed() {
            if missing.is_empty() {
                sessions.part.ready();
            } else {
                sessions.part.waiting(format!("the exchange does not know {}", missing.join(", ")));
            }
        }
    }
}
