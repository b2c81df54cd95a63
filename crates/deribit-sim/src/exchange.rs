//! State that all connections share.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::{AuthConfig, Config, LimitsConfig};
use crate::fault_injector::FaultInjector;
use crate::faults::{FaultKind, InjectedFault, Occasion, Plan};
use crate::feed::Feed;
use crate::limits::{ConnectionLimiter, TokenBucket, TokenBuckets};
use crate::market::Market;
use crate::metrics::Metrics;
use crate::protocol::{HistoryFault, ProtocolError, QueryContext, RequestParams, answer, is_history};

/// Milliseconds that `public/get_time` may run ahead of the feed. On an overloaded machine the exchange is slow, but it never shows a time
/// whose trades are still to come.
const MAX_AHEAD_MS: u64 = 500;

/// The exchange as its connections see it.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) market: Arc<Market>,
    pub(crate) clock: Clock,
    pub(crate) feed: Feed,
    pub(crate) auth: AuthConfig,
    pub(crate) limits: LimitsConfig,
    pub(crate) connections: Arc<ConnectionLimiter>,
    pub(crate) metrics: Metrics,
    pub(crate) injector: FaultInjector,
    /// Cancelled when the sessions must end.
    pub(crate) stopping: CancellationToken,
    /// Counts the sessions, so that `stop` can wait for them.
    pub(crate) sessions: TaskTracker,
    credits: TokenBuckets,
}

impl Exchange {
    pub(crate) fn new(config: &Config, plan: &Plan, metrics: Metrics) -> Self {
        let mut market = Market::new(config.market.options());
        if let Some(holes) = plan.holes() {
            market = market.with_holes(holes);
        }
        Self {
            market: Arc::new(market),
            injector: FaultInjector::new(plan, metrics.clone()),
            clock: config.market.clock(),
            feed: Feed::new(config.market.clock().now()),
            auth: config.auth.clone(),
            limits: config.limits.clone(),
            connections: Arc::new(ConnectionLimiter::new(config.limits.connections_per_ip)),
            metrics,
            stopping: CancellationToken::new(),
            sessions: TaskTracker::new(),
            credits: TokenBuckets::default(),
        }
    }

    /// Answers a request that needs no connection.
    pub(crate) fn answer(
        &self,
        method: &str,
        params: &RequestParams,
        history_fault: HistoryFault,
    ) -> Result<String, ProtocolError> {
        let now = self.clock.now();
        let shown_time = now.min(self.feed.sent_until().plus(MAX_AHEAD_MS));
        let context = QueryContext { market: &self.market, now, shown_time, history_fault };
        answer(context, method, params).unwrap_or_else(|| Err(ProtocolError::method_not_found()))
    }

    /// The fault that the plan injects into a request of that method, or the error that it injects.
    pub(crate) fn history_fault(&self, method: &str) -> Result<HistoryFault, ProtocolError> {
        let occasion = if is_history(method) { Occasion::History } else { Occasion::Call };
        match self.injector.at(occasion) {
            Some(InjectedFault { kind: FaultKind::RateLimit, .. }) => Err(ProtocolError::too_many_requests()),
            Some(InjectedFault { kind: FaultKind::Maintenance, .. }) => Err(ProtocolError::maintenance()),
            Some(InjectedFault { kind: FaultKind::Truncate, .. }) => Ok(HistoryFault::Truncated),
            Some(InjectedFault { kind: FaultKind::Lag, lasts, .. }) => Ok(HistoryFault::Lagging(lasts)),
            _ => Ok(HistoryFault::None),
        }
    }

    /// Takes the credits for a request of that method.
    ///
    /// `public/test` costs nothing, so that a client without credits stays connected.
    pub(crate) fn charge(&self, method: &str, address: IpAddr, logged_in: bool) -> Result<(), ProtocolError> {
        let bucket = match method {
            "public/test" => return Ok(()),
            "public/subscribe" | "public/unsubscribe" | "public/unsubscribe_all" => {
                TokenBucket::Subscriptions(address)
            }
            _ if logged_in => TokenBucket::Key,
            _ => TokenBucket::Address(address),
        };
        if !self.limits.credits || self.credits.charge(bucket, Instant::now()) {
            return Ok(());
        }
        Err(ProtocolError::too_many_requests())
    }
}
