//! What is said on a connection before trades flow, as a state machine without I/O or clock.
//!
//! In order: log in if there is a key, ask for heartbeats, subscribe in batches that fit the exchange's limits, and hold each answer
//! against what was asked: a channel that the exchange does not know is left out of its answer without an error.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::message::RpcError;

/// The exchange sends a heartbeat so often; its least.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(10);
/// Channels in one call, at most.
const BATCH_CHANNELS: usize = 500;
/// Bytes of channel names in one call; the frame around them stays well below the exchange's 32 kB.
const BATCH_BYTES: usize = 24_000;

/// A login is renewed after so many seconds at the latest: a month.
const LONGEST_LOGIN: u64 = 30 * 86_400;

/// A key for the exchange.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    /// Its public half.
    pub(crate) client_id: String,
    /// Its secret half.
    pub(crate) client_secret: SecretString,
}

/// A request that waits for its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum HandshakeStep {
    Auth,
    /// With the token of the login before, so that the secret need not be sent again.
    Refresh,
    SetHeartbeat,
    Subscribe(Vec<String>),
    Test,
}

/// What an answer means for the conversation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HandshakeProgress {
    /// Go on.
    None,
    /// Logged in; to be renewed within this time.
    LoggedIn(Duration),
    /// The exchange took these channels of a batch, and not those.
    Subscribed {
        /// Taken now.
        accepted: usize,
        /// Left out of the answer.
        missing: Vec<String>,
    },
}

/// The conversation on one connection.
#[derive(Debug)]
pub(crate) struct Handshake {
    credentials: Option<Credentials>,
    /// Of the last login.
    refresh_token: Option<SecretString>,
    to_say: VecDeque<HandshakeStep>,
    said: BTreeMap<u64, HandshakeStep>,
    next_id: u64,
    /// Batches not yet answered.
    unanswered: usize,
}

impl Handshake {
    /// A conversation that subscribes to `channels`.
    pub(crate) fn new(channels: &[String], credentials: Option<Credentials>) -> Self {
        let mut to_say = VecDeque::new();
        if credentials.is_some() {
            to_say.push_back(HandshakeStep::Auth);
        }
        to_say.push_back(HandshakeStep::SetHeartbeat);
        let batches = batches(channels);
        let unanswered = batches.len();
        to_say.extend(batches.into_iter().map(HandshakeStep::Subscribe));
        Self { credentials, refresh_token: None, to_say, said: BTreeMap::new(), next_id: 1, unanswered }
    }

    /// The next request to send, if there is one; at most about three a second are welcome.
    pub(crate) fn next_request(&mut self) -> Option<String> {
        // Channels may need the login: what comes behind it waits for its answer.
        if self.said.values().any(|call| matches!(call, HandshakeStep::Auth | HandshakeStep::Refresh)) {
            return None;
        }
        let call = self.to_say.pop_front()?;
        Some(self.request(call))
    }

    /// The answer to a test request, to be sent at once.
    pub(crate) fn test(&mut self) -> String {
        self.request(HandshakeStep::Test)
    }

    /// Renews the login before it is over.
    pub(crate) fn log_in_again(&mut self) {
        self.to_say.push_front(if self.refresh_token.is_some() {
            HandshakeStep::Refresh
        } else {
            HandshakeStep::Auth
        });
    }

    /// Asks for channels once more that the exchange did not know.
    pub(crate) fn subscribe_again(&mut self, channels: &[String]) {
        let batches = batches(channels);
        self.unanswered += batches.len();
        self.to_say.extend(batches.into_iter().map(HandshakeStep::Subscribe));
    }

    /// Whether every batch of channels has been answered.
    pub(crate) fn is_subscribed(&self) -> bool {
        self.unanswered == 0
    }

    /// Whether something was asked that has no answer yet.
    pub(crate) fn waits(&self) -> bool {
        !self.said.is_empty()
    }

    /// Takes an answer in. One that nobody waits for is passed over.
    ///
    /// # Errors
    /// The exchange's error, with the method that it answers.
    pub(crate) fn answer(
        &mut self,
        id: u64,
        outcome: Result<&RawValue, RpcError>,
    ) -> Result<HandshakeProgress, (&'static str, RpcError)> {
        let Some(call) = self.said.remove(&id) else { return Ok(HandshakeProgress::None) };
        let result = match outcome {
            Ok(result) => result,
            // A token may be too old, or forgotten; that says nothing about the key.
            Err(_) if call == HandshakeStep::Refresh => {
                self.refresh_token = None;
                self.to_say.push_front(HandshakeStep::Auth);
                return Ok(HandshakeProgress::None);
            }
            Err(error) => return Err((method(&call), error)),
        };
        Ok(match call {
            HandshakeStep::Auth | HandshakeStep::Refresh => self.logged_in(result),
            HandshakeStep::SetHeartbeat | HandshakeStep::Test => HandshakeProgress::None,
            HandshakeStep::Subscribe(asked) => {
                self.unanswered = self.unanswered.saturating_sub(1);
                compare(asked, result)
            }
        })
    }

    /// A login is renewed when a fifth of its time is left; one without a time, hourly.
    fn logged_in(&mut self, result: &RawValue) -> HandshakeProgress {
        #[derive(Deserialize)]
        struct Login {
            expires_in: u64,
            refresh_token: Option<String>,
        }
        let (seconds, token) = serde_json::from_str::<Login>(result.get())
            .map_or((4_500, None), |login| (login.expires_in.clamp(1, LONGEST_LOGIN), login.refresh_token));
        self.refresh_token = token.map(SecretString::from);
        HandshakeProgress::LoggedIn(Duration::from_secs(seconds) * 4 / 5)
    }

    fn request(&mut self, call: HandshakeStep) -> String {
        let id = self.next_id;
        self.next_id += 1;
        let params = match (&call, &self.credentials) {
            (HandshakeStep::Auth, Some(key)) => json!({
                "grant_type": "client_credentials",
                "client_id": key.client_id,
                "client_secret": key.client_secret.expose_secret(),
            }),
            (HandshakeStep::Refresh, _) => json!({
                "grant_type": "refresh_token",
                "refresh_token": self.refresh_token.as_ref().map(ExposeSecret::expose_secret),
            }),
            (HandshakeStep::SetHeartbeat, _) => json!({"interval": HEARTBEAT.as_secs()}),
            (HandshakeStep::Subscribe(channels), _) => json!({"channels": channels}),
            (HandshakeStep::Auth | HandshakeStep::Test, _) => json!({}),
        };
        let text = json!({"jsonrpc": "2.0", "id": id, "method": method(&call), "params": params}).to_string();
        self.said.insert(id, call);
        text
    }
}

fn method(call: &HandshakeStep) -> &'static str {
    match call {
        HandshakeStep::Auth | HandshakeStep::Refresh => "public/auth",
        HandshakeStep::SetHeartbeat => "public/set_heartbeat",
        HandshakeStep::Subscribe(_) => "public/subscribe",
        HandshakeStep::Test => "public/test",
    }
}

/// Channels in batches that one call takes.
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

fn compare(asked: Vec<String>, result: &RawValue) -> HandshakeProgress {
    let accepted: BTreeSet<String> = serde_json::from_str(result.get()).unwrap_or_default();
    let (taken, missing): (Vec<_>, Vec<_>) =
        asked.into_iter().partition(|channel| accepted.contains(channel));
    HandshakeProgress::Subscribed { accepted: taken.len(), missing }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channels(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("trades.INSTRUMENT-{n:05}.100ms")).collect()
    }

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn heartbeats_are_asked_for_before_channels() {
        let mut talk = Handshake::new(&channels(2), None);
        assert!(talk.next_request().unwrap().contains("public/set_heartbeat"));
        assert!(talk.next_request().unwrap().contains("public/subscribe"));
        assert_eq!(talk.next_request(), None);
        assert!(!talk.is_subscribed());
        talk.answer(2, Ok(&raw(r#"["trades.INSTRUMENT-00001.100ms","trades.INSTRUMENT-00000.100ms"]"#)))
            .unwrap();
        assert!(talk.is_subscribed());
    }

    #[test]
    fn many_channels_go_in_batches_that_the_exchange_takes() {
        let all = channels(1_200);
        let mut talk = Handshake::new(&all, None);
        let requests: Vec<_> = std::iter::from_fn(|| talk.next_request()).skip(1).collect();
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
    fn a_channel_that_the_exchange_leaves_out_is_noticed() {
        let mut talk = Handshake::new(&channels(2), None);
        while talk.next_request().is_some() {}
        let progress = talk.answer(2, Ok(&raw(r#"["trades.INSTRUMENT-00001.100ms"]"#))).unwrap();
        let missing = vec!["trades.INSTRUMENT-00000.100ms".to_owned()];
        assert_eq!(progress, HandshakeProgress::Subscribed { accepted: 1, missing });
    }

    #[test]
    fn with_a_key_nothing_is_said_before_the_login_is_answered() {
        let key = Credentials { client_id: "me".into(), client_secret: "pst".to_owned().into() };
        let mut talk = Handshake::new(&channels(1), Some(key));
        assert!(talk.next_request().unwrap().contains(r#""client_secret":"pst""#));
        assert_eq!(talk.next_request(), None);
        let progress = talk.answer(1, Ok(&raw(r#"{"expires_in":900,"access_token":"x"}"#))).unwrap();
        assert_eq!(progress, HandshakeProgress::LoggedIn(Duration::from_secs(720)));
        assert!(talk.next_request().unwrap().contains("public/set_heartbeat"));
        assert!(!format!("{talk:?}").contains("pst"), "the secret is never shown");
    }

    #[test]
    fn a_login_is_renewed_by_its_token_and_by_the_key_once_the_token_is_refused() {
        let key = Credentials { client_id: "me".into(), client_secret: "pst".to_owned().into() };
        let mut talk = Handshake::new(&[], Some(key));
        talk.next_request().unwrap();
        let login = raw(r#"{"expires_in":900,"refresh_token":"again"}"#);
        talk.answer(1, Ok(&login)).unwrap();
        while talk.next_request().is_some() {}
        talk.log_in_again();
        let renewal = talk.next_request().unwrap();
        assert!(renewal.contains(r#""refresh_token":"again""#) && !renewal.contains("pst"), "{renewal}");
        assert!(!format!("{talk:?}").contains("again"), "the token is never shown");
        let refused = RpcError { code: 13_004, message: "invalid_credentials".into() };
        assert_eq!(talk.answer(3, Err(refused.clone())), Ok(HandshakeProgress::None));
        assert!(talk.next_request().unwrap().contains("pst"));
        assert_eq!(talk.answer(4, Err(refused.clone())), Err(("public/auth", refused)));
    }

    #[test]
    fn an_error_comes_with_the_method_it_answers_and_a_stray_answer_is_passed_over() {
        let mut talk = Handshake::new(&channels(1), None);
        while talk.next_request().is_some() {}
        let refused = RpcError { code: 13_778, message: "raw".into() };
        assert_eq!(talk.answer(2, Err(refused.clone())), Err(("public/subscribe", refused.clone())));
        assert_eq!(talk.answer(77, Err(refused)), Ok(HandshakeProgress::None));
    }
}
