//! Calls that change a connection.

use std::time::{Duration, Instant};

use serde_json::json;

use super::Session;
use crate::protocol::{Channel, Interval, Params, Recall, Request, RpcError};

/// The most channels in one call.
const MOST_CHANNELS: usize = 500;

impl Session {
    /// The result of a call, as JSON.
    pub(super) fn call(&mut self, request: &Request, recall: Recall) -> Result<String, RpcError> {
        let (method, params) = (request.method.as_str(), &request.params);
        match method {
            "public/subscribe" | "private/subscribe" => self.subscribe(params),
            "public/unsubscribe" | "private/unsubscribe" => self.unsubscribe(params),
            "public/unsubscribe_all" | "private/unsubscribe_all" => {
                self.subscriptions.clear();
                self.listen();
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
                    self.alive.tested();
                }
                self.exchange.answer(method, params, recall)
            }
        }
    }

    /// Adds the channels that there are; the answer lists them, and not the others.
    fn subscribe(&mut self, params: &Params) -> Result<String, RpcError> {
        let names = channels(params)?;
        let known: Vec<_> = names.iter().filter_map(|name| Some((*name, self.channel(name)?))).collect();
        if !self.is_logged_in() && known.iter().any(|(_, channel)| channel.interval() == Some(Interval::Raw))
        {
            return Err(RpcError::raw_needs_login());
        }
        let accepted = json!(known.iter().map(|(name, _)| name).collect::<Vec<_>>());
        for (name, channel) in known {
            self.subscriptions.add(name, channel);
        }
        self.listen();
        Ok(accepted.to_string())
    }

    fn unsubscribe(&mut self, params: &Params) -> Result<String, RpcError> {
        let names = channels(params)?;
        let removed: Vec<_> = names.into_iter().filter(|name| self.subscriptions.remove(name)).collect();
        self.listen();
        Ok(json!(removed).to_string())
    }

    /// The channel of that name, if its instrument can be traded.
    fn channel(&self, name: &str) -> Option<Channel> {
        let channel = Channel::of(name)?;
        if let Channel::Instrument(instrument, _) = &channel {
            let listing = self.exchange.market.instrument(instrument)?;
            return listing.is_active(self.exchange.clock.now()).then_some(channel);
        }
        Some(channel)
    }

    /// Listens to the intervals that are subscribed to, and to no others.
    fn listen(&mut self) {
        let Self { raw, bundles, seconds, subscriptions, exchange, .. } = self;
        for (receiver, interval) in
            [(raw, Interval::Raw), (bundles, Interval::Bundle), (seconds, Interval::Second)]
        {
            if !subscriptions.want(interval) {
                *receiver = None;
            } else if receiver.is_none() {
                *receiver = Some(exchange.feed.listen(interval));
            }
        }
    }

    fn set_heartbeat(&mut self, params: &Params) -> Result<String, RpcError> {
        let interval = Duration::from_secs(params.required_number("interval")?);
        if interval < *self.exchange.limits.heartbeat_interval {
            let least = self.exchange.limits.heartbeat_interval.as_secs();
            return Err(RpcError::invalid_param("interval", &format!("must be {least} or more")));
        }
        self.alive.set_heartbeat(Some(interval), Instant::now());
        Ok(ok())
    }

    fn log_in(&mut self, params: &Params) -> Result<String, RpcError> {
        let auth = &self.exchange.auth;
        let meters = &self.exchange.meters;
        let (right, counted) = match params.required_text("grant_type")? {
            "client_credentials" => {
                let right = params.required_text("client_id")? == auth.client_id
                    && params.required_text("client_secret")? == auth.client_secret;
                (right, &meters.logins)
            }
            "refresh_token" => {
                (params.required_text("refresh_token")? == refresh_token(&auth.client_id), &meters.renewals)
            }
            _ => {
                return Err(RpcError::invalid_param(
                    "grant_type",
                    "must be client_credentials or refresh_token",
                ));
            }
        };
        if !right {
            return Err(RpcError::invalid_credentials());
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

/// One and the same at each login: a simulator that is started again knows those that it gave out before.
fn refresh_token(client_id: &str) -> String {
    format!("simulated-refresh.{client_id}")
}

fn channels(params: &Params) -> Result<Vec<&str>, RpcError> {
    let names = params.list("channels")?;
    if names.len() > MOST_CHANNELS {
        return Err(RpcError::invalid_param("channels", "must be at most 500"));
    }
    Ok(names)
}

fn ok() -> String {
    json!("ok").to_string()
}
