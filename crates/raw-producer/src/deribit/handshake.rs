//! The requests that a connection sends itself: a state machine without I/O and without a clock.
//!
//! It logs in if there is a key, asks for heartbeats, and subscribes in batches that fit the exchange's limits. It compares each answer with
//! its request, because the exchange omits unknown channels from the answer without an error.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::message::RpcError;
use super::rpc::{JsonRpcRequest, RequestIds};

/// The exchange's shortest heartbeat interval.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// The most channels in one request.
const BATCH_CHANNELS: usize = 500;
/// The most bytes of channel names in one request. With the rest of the frame it stays well below the exchange's 32 kB.
const BATCH_BYTES: usize = 24_000;

/// Assumed validity of a login without `expires_in`, in seconds. Such a login is renewed hourly.
const DEFAULT_LOGIN: u64 = 4_500;
/// A login counts as valid for at most this many seconds: a month.
const MAX_LOGIN: u64 = 30 * 86_400;

/// An API key of the exchange.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    pub(crate) client_id: String,
    pub(crate) client_secret: SecretString,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HandshakeStep {
    LogIn,
    /// Uses the token of the last login, so that the secret is sent once only.
    RenewLogin,
    SetHeartbeat,
    Subscribe(Vec<String>),
    AnswerTestRequest,
}

impl HandshakeStep {
    fn method(&self) -> &'static str {
        match self {
            Self::LogIn | Self::RenewLogin => "public/auth",
            Self::SetHeartbeat => "public/set_heartbeat",
            Self::Subscribe(_) => "public/subscribe",
            Self::AnswerTestRequest => "public/test",
        }
    }
}

/// What a response changes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HandshakeProgress {
    None,
    /// The login must be renewed within this time.
    LoggedIn(Duration),
    Subscribed {
        accepted: usize,
        /// Channels that the exchange does not know.
        missing: Vec<String>,
    },
}

/// An error response, with the method of its request.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{method}: {error}")]
pub(crate) struct HandshakeError {
    pub(crate) method: &'static str,
    pub(crate) error: RpcError,
}

/// The requests of one connection.
#[derive(Debug)]
pub(crate) struct Handshake {
    ids: RequestIds,
    credentials: Option<Credentials>,
    refresh_token: Option<SecretString>,
    to_send: VecDeque<HandshakeStep>,
    /// Requests without a response, by id.
    pending: BTreeMap<u64, HandshakeStep>,
    /// Subscription requests that are not sent or not answered.
    open_batches: usize,
}

impl Handshake {
    pub(crate) fn new(ids: RequestIds, channels: &[String], credentials: Option<Credentials>) -> Self {
        let mut to_send = VecDeque::new();
        if credentials.is_some() {
            to_send.push_back(HandshakeStep::LogIn);
        }
        to_send.push_back(HandshakeStep::SetHeartbeat);
        let mut handshake = Self {
            ids,
            credentials,
            refresh_token: None,
            to_send,
            pending: BTreeMap::new(),
            open_batches: 0,
        };
        handshake.subscribe(channels);
        handshake
    }

    /// The next request, if one is due. The exchange accepts about three of them a second.
    pub(crate) fn next_request(&mut self) -> Option<String> {
        // Channels may need the login: nothing is sent until it is answered.
        let logging_in =
            |step: &HandshakeStep| matches!(step, HandshakeStep::LogIn | HandshakeStep::RenewLogin);
        if self.pending.values().any(logging_in) {
            return None;
        }
        let step = self.to_send.pop_front()?;
        Some(self.request(step))
    }

    /// The answer to a test request. It must be sent at once.
    pub(crate) fn answer_test_request(&mut self) -> String {
        self.request(HandshakeStep::AnswerTestRequest)
    }

    /// Renews the login before it expires.
    pub(crate) fn renew_login(&mut self) {
        let by_token = self.refresh_token.is_some();
        self.to_send.push_front(if by_token { HandshakeStep::RenewLogin } else { HandshakeStep::LogIn });
    }

    /// Subscribes to channels, such as those that the exchange did not know before.
    pub(crate) fn subscribe(&mut self, channels: &[String]) {
        let batches = batches(channels);
        self.open_batches += batches.len();
        self.to_send.extend(batches.into_iter().map(HandshakeStep::Subscribe));
    }

    /// Whether every subscription request was answered.
    pub(crate) fn is_subscribed(&self) -> bool {
        self.open_batches == 0
    }

    /// Whether some request has no response yet.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether the response with this id belongs to a request of the handshake.
    pub(crate) fn expects(&self, id: u64) -> bool {
        self.pending.contains_key(&id)
    }

    /// Processes a response. One that is not expected changes nothing.
    pub(crate) fn on_response(
        &mut self,
        id: u64,
        outcome: Result<&RawValue, RpcError>,
    ) -> Result<HandshakeProgress, HandshakeError> {
        let Some(step) = self.pending.remove(&id) else { return Ok(HandshakeProgress::None) };
        let result = match outcome {
            Ok(result) => result,
            // A token may be expired or unknown. The key may still be valid.
            Err(_) if step == HandshakeStep::RenewLogin => {
                self.refresh_token = None;
                self.to_send.push_front(HandshakeStep::LogIn);
                return Ok(HandshakeProgress::None);
            }
            Err(error) => return Err(HandshakeError { method: step.method(), error }),
        };
        Ok(match step {
            HandshakeStep::LogIn | HandshakeStep::RenewLogin => self.on_login(result),
            HandshakeStep::SetHeartbeat | HandshakeStep::AnswerTestRequest => HandshakeProgress::None,
            HandshakeStep::Subscribe(requested) => {
                self.open_batches = self.open_batches.saturating_sub(1);
                compare(requested, result)
            }
        })
    }

    /// The login is renewed when a fifth of its validity is left.
    fn on_login(&mut self, result: &RawValue) -> HandshakeProgress {
        #[derive(Deserialize)]
        struct Login {
            expires_in: u64,
            refresh_token: Option<String>,
        }
        let (seconds, token) = match serde_json::from_str::<Login>(result.get()) {
            Ok(login) => (login.expires_in.clamp(1, MAX_LOGIN), login.refresh_token),
            Err(_) => (DEFAULT_LOGIN, None),
        };
        self.refresh_token = token.map(SecretString::from);
        HandshakeProgress::LoggedIn(Duration::from_secs(seconds) * 4 / 5)
    }

    fn request(&mut self, step: HandshakeStep) -> String {
        let params = match (&step, &self.credentials) {
            (HandshakeStep::LogIn, Some(key)) => json!({
                "grant_type": "client_credentials",
                "client_id": key.client_id,
                "client_secret": key.client_secret.expose_secret(),
            }),
            (HandshakeStep::RenewLogin, _) => json!({
                "grant_type": "refresh_token",
                "refresh_token": self.refresh_token.as_ref().map(ExposeSecret::expose_secret),
            }),
            (HandshakeStep::SetHeartbeat, _) => json!({"interval": HEARTBEAT.as_secs()}),
            (HandshakeStep::Subscribe(channels), _) => json!({"channels": channels}),
            (HandshakeStep::LogIn | HandshakeStep::AnswerTestRequest, _) => json!({}),
        };
        let request = JsonRpcRequest { id: self.ids.allocate(), method: step.method(), params };
        self.pending.insert(request.id, step);
        request.text()
    }
}

/// Splits channels into batches that fit one request each.
fn batches(channels: &[String]) -> Vec<Vec<String>> {
    let mut batches: Vec<Vec<String>> = Vec::new();
    let mut bytes = 0;
    for channel in channels {
        let size = channel.len() + 3;
        let fits =
            batches.last().is_some_and(|batch| batch.len() < BATCH_CHANNELS) && bytes + size <= BATCH_BYTES;
        match batches.last_mut() {
            Some(batch) if fits => {
                batch.push(channel.clone());
                bytes += size;
            }
            _ => {
                batches.push(vec![channel.clone()]);
                bytes = size;
            }
        }
    }
    batches
}

fn compare(requested: Vec<String>, result: &RawValue) -> HandshakeProgress {
    let known: BTreeSet<String> = serde_json::from_str(result.get()).unwrap_or_default();
    let (accepted, missing): (Vec<_>, Vec<_>) =
        requested.into_iter().partition(|channel| known.contains(channel));
    HandshakeProgress::Subscribed { accepted: accepted.len(), missing }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channels(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("trades.INSTRUMENT-{n:05}.100ms")).collect()
    }

    fn handshake(channels: &[String], credentials: Option<Credentials>) -> Handshake {
        Handshake::new(RequestIds::default(), channels, credentials)
    }

    fn key() -> Credentials {
        Credentials { client_id: "me".into(), client_secret: "pst".to_owned().into() }
    }

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn heartbeats_are_requested_before_channels() {
        let mut handshake = handshake(&channels(2), None);
        assert!(handshake.next_request().unwrap().contains("public/set_heartbeat"));
        assert!(handshake.next_request().unwrap().contains("public/subscribe"));
        assert_eq!(handshake.next_request(), None);
        assert!(!handshake.is_subscribed() && handshake.expects(2) && !handshake.expects(3));
        let accepted = raw(r#"["trades.INSTRUMENT-00001.100ms","trades.INSTRUMENT-00000.100ms"]"#);
        handshake.on_response(2, Ok(&accepted)).unwrap();
        assert!(handshake.is_subscribed());
    }

    #[test]
    fn many_channels_go_in_batches_that_the_exchange_accepts() {
        let all = channels(1_200);
        let mut handshake = handshake(&all, None);
        let requests: Vec<_> = std::iter::from_fn(|| handshake.next_request()).skip(1).collect();
        assert!(requests.len() >= 3);
        let mut seen = Vec::new();
        for request in requests {
            assert!(request.len() < 32_000);
            let json: serde_json::Value = serde_json::from_str(&request).unwrap();
            let batch: Vec<String> = serde_json::from_value(json["params"]["channels"].clone()).unwrap();
            assert!(batch.len() <= 500);
            seen.extend(batch);
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn a_channel_that_the_exchange_omits_is_noticed() {
        let mut handshake = handshake(&channels(2), None);
        while handshake.next_request().is_some() {}
        let progress = handshake.on_response(2, Ok(&raw(r#"["trades.INSTRUMENT-00001.100ms"]"#))).unwrap();
        let missing = vec!["trades.INSTRUMENT-00000.100ms".to_owned()];
        assert_eq!(progress, HandshakeProgress::Subscribed { accepted: 1, missing });
    }

    #[test]
    fn with_a_key_nothing_is_sent_before_the_login_is_answered() {
        let mut handshake = handshake(&channels(1), Some(key()));
        assert!(handshake.next_request().unwrap().contains(r#""client_secret":"pst""#));
        assert_eq!(handshake.next_request(), None);
        let login = raw(r#"{"expires_in":900,"access_token":"x"}"#);
        let progress = handshake.on_response(1, Ok(&login)).unwrap();
        assert_eq!(progress, HandshakeProgress::LoggedIn(Duration::from_secs(720)));
        assert!(handshake.next_request().unwrap().contains("public/set_heartbeat"));
        assert!(!format!("{handshake:?}").contains("pst"), "the secret is never shown");
    }

    #[test]
    fn a_login_is_renewed_by_token_or_by_key_once_the_token_is_rejected() {
        let mut handshake = handshake(&[], Some(key()));
        handshake.next_request().unwrap();
        let login = raw(r#"{"expires_in":900,"refresh_token":"again"}"#);
        handshake.on_response(1, Ok(&login)).unwrap();
        while handshake.next_request().is_some() {}
        handshake.renew_login();
        let renewal = handshake.next_request().unwrap();
        assert!(renewal.contains(r#""refresh_token":"again""#) && !renewal.contains("pst"), "{renewal}");
        assert!(!format!("{handshake:?}").contains("again"), "the token is never shown");
        let error = RpcError { code: 13_004, message: "invalid_credentials".into() };
        assert_eq!(handshake.on_response(3, Err(error.clone())), Ok(HandshakeProgress::None));
        assert!(handshake.next_request().unwrap().contains("pst"));
        let rejected = HandshakeError { method: "public/auth", error: error.clone() };
        assert_eq!(handshake.on_response(4, Err(error)), Err(rejected));
    }

    #[test]
    fn an_error_names_its_method_and_an_unexpected_response_changes_nothing() {
        let mut handshake = handshake(&channels(1), None);
        while handshake.next_request().is_some() {}
        let error = RpcError { code: 13_778, message: "raw".into() };
        let rejected = HandshakeError { method: "public/subscribe", error: error.clone() };
        assert_eq!(handshake.on_response(2, Err(error.clone())), Err(rejected));
        assert_eq!(handshake.on_response(77, Err(error)), Ok(HandshakeProgress::None));
    }
}
