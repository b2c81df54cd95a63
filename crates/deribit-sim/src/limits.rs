//! What a client may do: credits, and connections per address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// What calls are paid from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purse {
    /// Calls without a login, per address.
    Address(IpAddr),
    /// Calls with a login: there is one key only.
    Key,
    /// Calls to subscribe and unsubscribe, per address.
    Subscriptions(IpAddr),
}

/// Credits that a call costs: at most 20 calls a second, 100 at once; subscriptions 3.3 a second, 10 at once.
const CALL: f64 = 500.0;
const SUBSCRIPTION: f64 = 3_000.0;
const POOL: f64 = 50_000.0;
const SUBSCRIPTION_POOL: f64 = 30_000.0;
const REFILL_PER_SECOND: f64 = 10_000.0;

impl Purse {
    /// What fits in, and what a call takes out.
    const fn terms(self) -> (f64, f64) {
        match self {
            Self::Address(_) | Self::Key => (POOL, CALL),
            Self::Subscriptions(_) => (SUBSCRIPTION_POOL, SUBSCRIPTION),
        }
    }
}

/// The pools of all clients.
#[derive(Debug, Default)]
pub(crate) struct Credits(Mutex<HashMap<Purse, Pool>>);

#[derive(Debug, Clone, Copy)]
struct Pool {
    level: f64,
    at: Instant,
}

impl Credits {
    /// Pays for a call; `false` if there is not enough.
    pub(crate) fn pay(&self, purse: Purse, now: Instant) -> bool {
        let (full, cost) = purse.terms();
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = pools.entry(purse).or_insert(Pool { level: full, at: now });
        let refilled = now.saturating_duration_since(pool.at).as_secs_f64() * REFILL_PER_SECOND;
        *pool = Pool { level: (pool.level + refilled).min(full), at: now };
        let enough = pool.level >= cost;
        if enough {
            pool.level -= cost;
        }
        enough
    }
}

/// Connections by address.
#[derive(Debug)]
pub(crate) struct Connections {
    open: Mutex<HashMap<IpAddr, usize>>,
    most: usize,
}

/// A connection's place among those of its address, until it is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    connections: Arc<Connections>,
    address: IpAddr,
}

impl Connections {
    pub(crate) fn new(most: usize) -> Self {
        Self { open: Mutex::default(), most }
    }

    /// A place for one more, if there is one.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Ticket> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Ticket { connections: Arc::clone(self), address })
    }
}

impl Ticket {
    /// The client's address.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }
}

impl Drop for Ticket {
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
    fn a_hundred_calls_may_come_at_once_and_twenty_a_second_after_that() {
        let credits = Credits::default();
        let start = Instant::now();
        let calls = |at| (0..).take_while(|_| credits.pay(Purse::Address(ADDRESS), at)).count();
        assert_eq!(calls(start), 100);
        assert_eq!(calls(start + Duration::from_secs(1)), 20);
        assert_eq!(calls(start + Duration::from_secs(100)), 100);
    }

    #[test]
    fn subscribing_has_a_pool_of_its_own() {
        let credits = Credits::default();
        let now = Instant::now();
        assert_eq!((0..).take_while(|_| credits.pay(Purse::Subscriptions(ADDRESS), now)).count(), 10);
        assert!(credits.pay(Purse::Address(ADDRESS), now));
    }

    #[test]
    fn a_place_is_free_again_when_its_connection_ends() {
        let connections = Arc::new(Connections::new(2));
        let first = connections.enter(ADDRESS).unwrap();
        let second = connections.enter(ADDRESS).unwrap();
        assert!(connections.enter(ADDRESS).is_none());
        drop(first);
        assert!(connections.enter(ADDRESS).is_some());
        drop(second);
    }
}
