//! The feed's requests to the exchange: ids, credits, and which are in flight.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::history::Query;
use super::rate_limit::Credits;
use super::rpc::RequestIds;

/// A connection that does not respond within this time is dead.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Credits that history never uses: the exchange's time is requested whatever is left, and one request too many costs the connection.
const RESERVED_CREDITS: usize = 5;
/// The most requests in flight at the same time.
pub(crate) const MAX_IN_FLIGHT: usize = 10;
/// No requests for this long after the exchange has rejected one.
const PAUSE_AFTER_REJECTION: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct InFlight<K> {
    kind: K,
    connection: usize,
    sent_at: Instant,
}

/// Requests in flight. `K` says what a response is for.
#[derive(Debug)]
pub(crate) struct Requests<K> {
    ids: RequestIds,
    credits: Credits,
    in_flight: HashMap<u64, InFlight<K>>,
}

impl<K> Requests<K> {
    pub(crate) fn new(ids: RequestIds, per_second: u32, now: Instant) -> Self {
        Self { ids, credits: Credits::new(per_second, now), in_flight: HashMap::new() }
    }

    /// Number of requests that may be sent now.
    pub(crate) fn available(&mut self, now: Instant) -> usize {
        let credits = self.credits.left(now).saturating_sub(RESERVED_CREDITS);
        MAX_IN_FLIGHT.saturating_sub(self.in_flight.len()).min(credits)
    }

    /// Number of requests in flight of these kinds.
    pub(crate) fn count(&self, of: impl Fn(&K) -> bool) -> usize {
        self.in_flight.values().filter(|found| of(&found.kind)).count()
    }

    /// Counts a request that a connection has sent itself: to log in, subscribe, or answer a heartbeat.
    pub(crate) fn on_connection_request(&mut self) {
        self.credits.spend();
    }

    pub(crate) fn credits(&mut self, now: Instant) -> usize {
        self.credits.left(now)
    }

    /// Sends a request through `sender`, which belongs to `connection`.
    ///
    /// # Errors
    /// `kind`, if the connection does not accept the request.
    pub(crate) fn send(
        &mut self,
        connection: usize,
        sender: &mpsc::Sender<String>,
        query: &Query,
        kind: K,
        now: Instant,
    ) -> Result<(), K> {
        let Ok(permit) = sender.try_reserve() else { return Err(kind) };
        let id = self.ids.allocate();
        permit.send(query.request(id).text());
        self.credits.spend();
        self.in_flight.insert(id, InFlight { kind, connection, sent_at: now });
        Ok(())
    }

    /// What the response with this id is for. `None` if the request has timed out, or was not the feed's.
    pub(crate) fn on_response(&mut self, id: u64) -> Option<K> {
        self.in_flight.remove(&id).map(|found| found.kind)
    }

    /// Sends nothing for a while, after the exchange has rejected a request.
    pub(crate) fn pause(&mut self, now: Instant) {
        self.credits.close(now, PAUSE_AFTER_REJECTION);
    }

    /// Removes the requests of a lost connection.
    pub(crate) fn on_disconnect(&mut self, connection: usize) -> Vec<K> {
        let lost = self.remove(|found| found.connection == connection);
        lost.into_iter().map(|found| found.kind).collect()
    }

    /// Removes the requests without a response in time, with their connections.
    pub(crate) fn take_timed_out(&mut self, now: Instant) -> Vec<(usize, K)> {
        let late = self.remove(|found| now.saturating_duration_since(found.sent_at) > RESPONSE_TIMEOUT);
        late.into_iter().map(|found| (found.connection, found.kind)).collect()
    }

    fn remove(&mut self, which: impl Fn(&InFlight<K>) -> bool) -> Vec<InFlight<K>> {
        self.in_flight.extract_if(|_, found| which(found)).map(|(_, found)| found).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_credits_and_requests_in_flight_bound_what_may_be_sent() {
        let (now, (sender, _receiver)) = (Instant::now(), mpsc::channel(100));
        let mut requests = Requests::new(RequestIds::default(), 2, now);
        assert_eq!(requests.available(now), 10 - RESERVED_CREDITS);
        for _ in 0..3 {
            requests.send(0, &sender, &Query::Time, (), now).unwrap();
        }
        assert_eq!(requests.available(now), 10 - RESERVED_CREDITS - 3);
        let later = now + Duration::from_secs(5);
        assert_eq!(requests.available(later), 10 - RESERVED_CREDITS);
        let mut many = Requests::new(RequestIds::default(), 1_000, now);
        many.send(0, &sender, &Query::Time, (), now).unwrap();
        assert_eq!(many.available(now), MAX_IN_FLIGHT - 1);
    }

    #[test]
    fn a_request_ends_by_its_response_its_timeout_or_its_connection() {
        let (now, (sender, mut receiver)) = (Instant::now(), mpsc::channel(2));
        let mut requests = Requests::new(RequestIds::default(), 20, now);
        requests.send(0, &sender, &Query::Time, "first", now).unwrap();
        let later = now + Duration::from_secs(6);
        requests.send(1, &sender, &Query::Time, "second", later).unwrap();
        assert_eq!(requests.send(1, &sender, &Query::Time, "third", later), Err("third"), "no room");
        assert_eq!(requests.take_timed_out(later), []);
        assert_eq!(requests.take_timed_out(now + Duration::from_secs(11)), [(0, "first")]);
        assert_eq!(requests.on_response(1), None);
        assert_eq!(requests.on_disconnect(0), Vec::<&str>::new());
        assert_eq!(requests.on_disconnect(1), ["second"]);
        receiver.try_recv().unwrap();
        requests.send(1, &sender, &Query::Time, "fourth", later).unwrap();
        assert_eq!(requests.on_response(3), Some("fourth"));
    }
}
