//! Requests that change the state of a connection.

use std::time::{Duration, Instant};

use serde_json::json;

use super::Session;
use crate::protocol::{Channel, HistoryFault, Interval, ProtocolError, RequestParams, RpcRequest};

/// The exchange's limit of channels in one request.
const MAX_CHANNELS: usize = 500;

impl Session {
    /// The result of a request as JSON.
    pub(super) fn call(
        &mut self,
        request: &RpcRequest,
        history_fault: HistoryFault,
    ) -> Result<String, ProtocolError> {
        let (method, params) = (request.method.as_str(), &request.params);
        match method {
            "public/subscribe" | "private/subscribe" => self.subscribe(params),
            "public/unsubscribe" | "private/unsubscribe" => self.unsubscribe(params),
            "public/unsubscribe_all" | "private/unsubscribe_all" => {
                self.subscriptions.clear();
                self.update_feed();
                Ok(ok())
            }
            "public/set_heartbeat" => self.set_heartbeat(params),
            "public/disable_heartbeat" => {
                self.alive.set_heartbeat(None, Instant::now());
                Ok(ok())
            }
            "public/auth" => self.log_in(params),
            _ => {
                if method == "public/test" {
                    self.alive.on_test_answered();
                }
                self.exchange.answer(method, params, history_fault)
            }
        }
    }

    /// Adds the channels that exist. The result lists only these.
    fn subscribe(&mut self, params: &RequestParams) -> Result<String, ProtocolError> {
        let names = channels(params)?;
        let known: Vec<_> = names.iter().filter_map(|name| Some((*name, self.channel(name)?))).collect();
        if !self.is_logged_in() && known.iter().any(|(_, channel)| channel.interval() == Some(Interval::Raw))
        {
            return Err(ProtocolError::raw_needs_login());
        }
        let accepted = json!(known.iter().map(|(name, _)| name).collect::<Vec<_>>());
        for (name, channel) in known {
            self.subscriptions.add(name, channel);
        }
        self.update_feed();
        Ok(accepted.to_string())
    }

    fn unsubscribe(&mut self, params: &RequestParams) -> Result<String, ProtocolError> {
        let names = channels(params)?;
        let removed: Vec<_> = names.into_iter().filter(|name| self.subscriptions.remove(name)).collect();
        self.update_feed();
        Ok(json!(removed).to_string())
    }

    /// The channel of that name, if its instrument is active.
    fn channel(&self, name: &str) -> Option<Channel> {
        let channel = Channel::of(name)?;
        if let Channel::Instrument(instrument, _) = &channel {
            let listing = self.exchange.market.instrument(instrument)?;
            return listing.is_active(self.exchange.clock.now()).then_some(channel);
        }
        Some(channel)
    }

    /// Subscribes to the feed intervals that the channels need, and to no others.
    fn update_feed(&mut self) {
        let Self { raw, bundles, seconds, subscriptions, exchange, .. } = self;
        for (receiver, interval) in
            [(raw, Interval::Raw), (bundles, Interval::Bundle), (seconds, Interval::Second)]
        {
            if !subscriptions.wants(interval) {
                *receiver = None;
            } else if receiver.is_none() {
                *receiver = Some(exchange.feed.listen(interval));
            }
        }
    }

    fn set_heartbeat(&mut self, params: &RequestParams) -> Result<String, ProtocolError> {
        let interval = Duration::from_secs(params.required_number("interval")?);
        if interval < *self.exchange.limits.heartbeat_interval {
            let least = self.exchange.limits.heartbeat_interval.as_secs();
            return Err(ProtocolError::invalid_param("interval", &format!("must be {least} or more")));
        }
        self.alive.set_heartbeat(Some(interval), Instant::now());
        Ok(ok())
    }

    fn log_in(&mut self, params: &RequestParams) -> Result<String, ProtocolError> {
        let auth = &self.exchange.auth;
        let metrics = &self.exchange.metrics;
        let (right, counted) = match params.required_text("grant_type")? {
            "client_credentials" => {
                let right = params.required_text("client_id")? == auth.client_id
                    && params.required_text("client_secret")? == auth.client_secret;
                (right, &metrics.logins)
            }
            "refresh_token" => (
                params.required_text("refresh_token")? == refresh_token(&auth.client_id),
                &metrics.token_refreshes,
            ),
            _ => {
                return Err(ProtocolError::invalid_param(
                    "grant_type",
                    "must be client_credentials or refresh_token",
                ));
            }
        };
        if !right {
            return Err(ProtocolError::invalid_credentials());
        }
        counted.inc();
        let (lasts, client_id) = (*auth.expires_in, &auth.client_id);
        let result = json!({
            "access_token": format!("simulated-access.{client_id}"),
            "refresh_token": refresh_token(client_id),
            "expires_in": lasts.as_secs(),
            "scope": "connection",
            "token_type": "bearer",
        });
        self.logged_in = Some(Instant::now() + lasts);
        Ok(result.to_string())
    }
}

/// The same at each login, so that a restarted simulator accepts the tokens it gave out before.
fn refresh_token(client_id: &str) -> String {
    format!("simulated-refresh.{client_id}")
}

fn channels(params: &RequestParams) -> Result<Vec<&str>, ProtocolError> {
    let names = params.list("channels")?;
    if names.len() > MAX_CHANNELS {
        return Err(ProtocolError::invalid_param("channels", "must be at most 500"));
    }
    Ok(names)
}

fn ok() -> String {
    json!("ok").to_string()
}
