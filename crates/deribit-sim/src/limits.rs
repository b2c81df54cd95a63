//! Limits of a client: credits for requests, and connections per address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// The bucket that pays for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum TokenBucket {
    /// Requests without a login, per address.
    Address(IpAddr),
    /// Requests with a login; the simulator has one key only.
    Key,
    /// Requests to subscribe and unsubscribe, per address.
    Subscriptions(IpAddr),
}

/// Credits that a request costs: at most 20 requests a second and 100 at once; subscriptions 3.3 a second and 10 at once.
const CALL: f64 = 500.0;
const SUBSCRIPTION: f64 = 3_000.0;
const POOL: f64 = 50_000.0;
const SUBSCRIPTION_POOL: f64 = 30_000.0;
const REFILL_PER_SECOND: f64 = 10_000.0;

impl TokenBucket {
    /// Capacity, and cost of a request.
    const fn terms(self) -> (f64, f64) {
        match self {
            Self::Address(_) | Self::Key => (POOL, CALL),
            Self::Subscriptions(_) => (SUBSCRIPTION_POOL, SUBSCRIPTION),
        }
    }
}

/// The buckets of all clients.
#[derive(Debug, Default)]
pub(crate) struct TokenBuckets(Mutex<HashMap<TokenBucket, BucketLevel>>);

#[derive(Debug, Clone, Copy)]
struct BucketLevel {
    level: f64,
    at: Instant,
}

impl TokenBuckets {
    /// Takes the credits for a request; `false` if there are too few.
    pub(crate) fn charge(&self, bucket: TokenBucket, now: Instant) -> bool {
        let (full, cost) = bucket.terms();
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = pools.entry(bucket).or_insert(BucketLevel { level: full, at: now });
        let refilled = now.saturating_duration_since(pool.at).as_secs_f64() * REFILL_PER_SECOND;
        *pool = BucketLevel { level: (pool.level + refilled).min(full), at: now };
        let enough = pool.level >= cost;
        if enough {
            pool.level -= cost;
        }
        enough
    }
}

/// Bounds the open connections of each address.
#[derive(Debug)]
pub(crate) struct ConnectionLimiter {
    open: Mutex<HashMap<IpAddr, usize>>,
    most: usize,
}

/// Counts as one open connection of its address until it is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionGuard {
    connections: Arc<ConnectionLimiter>,
    address: IpAddr,
}

impl ConnectionLimiter {
    pub(crate) fn new(most: usize) -> Self {
        Self { open: Mutex::default(), most }
    }

    /// Admits one more connection, if the limit allows.
    pub(crate) fn acquire(self: &Arc<Self>, address: IpAddr) -> Option<ConnectionGuard> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(ConnectionGuard { connections: Arc::clone(self), address })
    }
}

impl ConnectionGuard {
    /// The address that the connection counts for.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_hundred_requests_at_once_then_twenty_a_second() {
        let credits = TokenBuckets::default();
        let start = Instant::now();
        let calls = |at| (0..).take_while(|_| credits.charge(TokenBucket::Address(ADDRESS), at)).count();
        assert_eq!(calls(start), 100);
        assert_eq!(calls(start + Duration::from_secs(1)), 20);
        assert_eq!(calls(start + Duration::from_secs(100)), 100);
    }

    #[test]
    fn subscribing_has_a_pool_of_its_own() {
        let credits = TokenBuckets::default();
        let now = Instant::now();
        assert_eq!(
            (0..).take_while(|_| credits.charge(TokenBucket::Subscriptions(ADDRESS), now)).count(),
            10
        );
        assert!(credits.charge(TokenBucket::Address(ADDRESS), now));
    }

    #[test]
    fn a_place_is_free_again_when_its_connection_ends() {
        let connections = Arc::new(ConnectionLimiter::new(2));
        let first = connections.acquire(ADDRESS).unwrap();
        let second = connections.acquire(ADDRESS).unwrap();
        assert!(connections.acquire(ADDRESS).is_none());
        drop(first);
        assert!(connections.acquire(ADDRESS).is_some());
        drop(second);
    }
}
