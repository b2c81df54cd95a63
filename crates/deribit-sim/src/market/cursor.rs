//! Trades in order of time, without a query to every instrument at every step.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Market;
use super::history::sort;
use super::time::MarketTime;
use super::trade::MarketTrade;
use super::universe::PlaceId;

/// A moment in a market, with the next trade of each place. It is a cache: [`Market::trades`] gives the same trades.
#[derive(Debug)]
pub struct Cursor {
    at: MarketTime,
    /// (time since genesis, place, rank) of the next trades.
    next: BinaryHeap<Reverse<(u64, PlaceId, u64)>>,
}

impl Cursor {
    /// A cursor before the first trade at or after that moment.
    #[must_use]
    pub fn new(market: &Market, at: MarketTime) -> Self {
        let next = market.places.iter().enumerate().map(|(id, place)| {
            let rank = place.tape.before(at.since_genesis());
            Reverse((place.tape.leaf(rank).time, id, rank))
        });
        Self { at, next: next.collect() }
    }

    /// The moment that the cursor has reached.
    #[must_use]
    pub fn at(&self) -> MarketTime {
        self.at
    }

    /// Advances to a later moment. Returns the trades in between in order of time, those at the later moment excluded.
    pub fn advance(&mut self, market: &Market, to: MarketTime) -> Vec<MarketTrade> {
        let mut trades = Vec::new();
        let end = to.since_genesis();
        while let Some(mut head) = self.next.peek_mut() {
            let Reverse((time, id, rank)) = *head;
            let Some(place) = market.places.get(id).filter(|_| time < end) else { break };
            let next = place.tape.before(end);
            *head = Reverse((place.tape.leaf(next).time, id, next));
            drop(head);
            market.make(id, rank..next, &mut trades);
        }
        sort(&mut trades);
        self.at = self.at.max(to);
        trades
    }
}
