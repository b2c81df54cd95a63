//! What all connections share.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::{AuthConfig, Config, LimitsConfig};
use crate::faults::{Blow, FaultKind, Occasion, Plan};
use crate::feed::Feed;
use crate::limits::{Connections, Credits, Purse};
use crate::market::Market;
use crate::metrics::Meters;
use crate::protocol::{Context, Params, Recall, RpcError, answer, is_history};
use crate::trouble::Trouble;

/// How far the time that is told may run ahead of the feed, in milliseconds: on a machine that is short of time the exchange is slow, but nobody is told a time
/// of which the trades have yet to come.
const AHEAD: u64 = 500;

/// The exchange, as its connections see it.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) market: Arc<Market>,
    pub(crate) clock: Clock,
    pub(crate) feed: Feed,
    pub(crate) auth: AuthConfig,
    pub(crate) limits: LimitsConfig,
    pub(crate) connections: Arc<Connections>,
    pub(crate) meters: Meters,
    pub(crate) trouble: Trouble,
    /// Tells the sessions to end.
    pub(crate) stopping: CancellationToken,
    /// The sessions, so that their end can be waited for.
    pub(crate) sessions: TaskTracker,
    credits: Credits,
}

impl Exchange {
    pub(crate) fn new(config: &Config, plan: &Plan, meters: Meters) -> Self {
        let mut market = Market::new(config.market.options());
        if let Some(holes) = plan.holes() {
            market = market.with_holes(holes);
        }
        Self {
            market: Arc::new(market),
            trouble: Trouble::new(plan, meters.clone()),
            clock: config.market.clock(),
            feed: Feed::new(config.market.clock().now()),
            auth: config.auth.clone(),
            limits: config.limits.clone(),
            connections: Arc::new(Connections::new(config.limits.connections_per_ip)),
            meters,
            stopping: CancellationToken::new(),
            sessions: TaskTracker::new(),
            credits: Credits::default(),
        }
    }

    /// Answers a call that needs no connection.
    pub(crate) fn answer(&self, method: &str, params: &Params, recall: Recall) -> Result<String, RpcError> {
        let now = self.clock.now();
        let told = now.min(self.feed.sent_until().plus(AHEAD));
        let context = Context { market: &self.market, now, told, recall };
        answer(context, method, params).unwrap_or_else(|| Err(RpcError::method_not_found()))
    }

    /// How well history is remembered for a call of that method; or it fails, if the plan of faults says so.
    pub(crate) fn recall(&self, method: &str) -> Result<Recall, RpcError> {
        let occasion = if is_history(method) { Occasion::History } else { Occasion::Call };
        match self.trouble.at(occasion) {
            Some(Blow { kind: FaultKind::RateLimit, .. }) => Err(RpcError::too_many_requests()),
            Some(Blow { kind: FaultKind::Maintenance, .. }) => Err(RpcError::maintenance()),
            Some(Blow { kind: FaultKind::Truncate, .. }) => Ok(Recall::Half),
            Some(Blow { kind: FaultKind::Lag, lasts, .. }) => Ok(Recall::Behind(lasts)),
            _ => Ok(Recall::Full),
        }
    }

    /// Pays for a call of that method.
    ///
    /// The answer to a `test_request` costs nothing, so that a client that has used up its credits stays alive.
    pub(crate) fn pay(&self, method: &str, (address, logged_in): (IpAddr, bool)) -> Result<(), RpcError> {
        let purse = match method {
            "public/test" => return Ok(()),
            "public/subscribe" | "public/unsubscribe" | "public/unsubscribe_all" => {
                Purse::Subscriptions(address)
            }
            _ if logged_in => Purse::Key,
            _ => Purse::Address(address),
        };
        if !self.limits.credits || self.credits.pay(purse, Instant::now()) {
            return Ok(());
        }
        Err(RpcError::too_many_requests())
    }
}
