//! Trades from their ranks: everything about a trade but when it happens.

use std::ops::Range;

use super::Market;
use super::family::{Family, InstrumentKind};
use super::listing::{Listing, Terms};
use super::noise::{Key, unit};
use super::price::Worth;
use super::tape::{Leaf, Origin};
use super::tick::{Tick, decimal};
use super::time::MarketTime;
use super::trade::{Block, ComboLeg, Direction, MarketTrade, Starbase, TickDirection, TradeId};
use super::universe::{Place, PlaceId};

/// Names of what chance decides, within a place's own source of it; 0 is its arrivals.
mod name {
    pub(super) const DIRECTION: u64 = 1;
    pub(super) const MOOD: u64 = 2;
    pub(super) const TRADE: u64 = 3;
    pub(super) const LIQUIDATION: u64 = 4;
    pub(super) const BLOCK: u64 = 5;
    pub(super) const STARBASE: u64 = 6;
}

/// Each so many trades of an instrument the price is made to change. What a tick direction says about equal prices
/// depends on the last change, so without this the search for it would have no bound.
const LONGEST_STANDSTILL: u64 = 64;

/// Amounts in dollars by cumulative share, from the recorded perpetual.
const DOLLARS: [(f64, f64); 10] = [
    (0.0, 10.0),
    (0.01, 10.0),
    (0.1, 30.0),
    (0.25, 100.0),
    (0.5, 770.0),
    (0.75, 4_990.0),
    (0.9, 11_940.0),
    (0.99, 52_080.0),
    (0.999, 173_970.0),
    (1.0, 893_090.0),
];

/// Amounts in lots by cumulative share, from the recorded options.
const LOTS: [(f64, f64); 7] =
    [(0.0, 1.0), (0.54, 1.0), (0.7, 2.0), (0.75, 5.0), (0.9, 20.0), (0.99, 210.0), (1.0, 458.0)];

/// A stretch of one instrument's trades under way.
struct Run<'a> {
    market: &'a Market,
    place: &'a Place,
    listing: Listing,
    /// Rank of the instrument's first trade.
    base: u64,
}

/// The price of a trade and which way it moved.
#[derive(Clone, Copy)]
struct Last {
    price: f64,
    moved: TickDirection,
}

impl Market {
    /// Appends the trades of these ranks of a place, in order.
    pub(super) fn make(&self, id: PlaceId, ranks: Range<u64>, out: &mut Vec<MarketTrade>) {
        let Some(place) = self.places.get(id) else { return };
        let mut rank = ranks.start;
        let mut run: Option<Run<'_>> = None;
        let mut last = None;
        while rank < ranks.end {
            let leaf = place.tape.leaf(rank);
            let time = MarketTime::from_genesis(leaf.time);
            if run.as_ref().is_none_or(|run| !run.listing.life.holds(time)) {
                let Some(next) = Run::at(self, id, time) else { return };
                last = next.last_before(rank);
                run = Some(next);
            }
            let Some(run) = &run else { return };
            let worth = self.prices.worth(&run.listing, time);
            let end = leaf.end().min(ranks.end);
            while rank < end {
                let trade = run.trade(place.tape.origin(&leaf, rank), rank, (&worth, last));
                last = Some(Last { price: trade.price, moved: trade.tick_direction });
                if !self.is_hole(id, rank) {
                    out.push(trade);
                }
                rank += 1;
            }
        }
    }

    /// The trade of `stream` at that time as it appears at one of the stream's legs.
    fn leg(&self, leg: PlaceId, origin: &Origin<'_>) -> Option<MarketTrade> {
        let rank = self.places.get(leg)?.tape.rank(origin.source.stream, origin.time, origin.ordinal);
        let mut trades = Vec::with_capacity(1);
        self.make(leg, rank..rank + 1, &mut trades);
        trades.pop()
    }
}

impl<'a> Run<'a> {
    /// The instrument that holds the place at that time.
    fn at(market: &'a Market, id: PlaceId, time: MarketTime) -> Option<Self> {
        let place = market.places.get(id)?;
        let listing = market.listing_at(id, time)?;
        let base = place.tape.before(listing.life.from.since_genesis());
        Some(Self { market, place, listing, base })
    }

    /// The trade of that origin and rank, from what the instrument is worth and the trade before.
    fn trade(&self, origin: Origin<'_>, rank: u64, (worth, last): (&Worth, Option<Last>)) -> MarketTrade {
        let facts = Facts::of(self.market, &origin);
        let direction = self.direction(&facts, &origin);
        let price =
            self.price(rank, self.bare_price(direction, &origin, worth), || last.map(|last| last.price));
        let moved = last.map_or(TickDirection::Plus, |last| last.moved.after(last.price, price));
        let amount = facts.amount(worth.index);
        let legs = self.legs(&origin);
        MarketTrade {
            instrument_name: self.listing.name().clone(),
            kind: self.listing.kind(),
            currency: self.listing.currency(),
            trade_seq: rank - self.base + 1,
            trade_id: facts.id(origin.source.leg),
            timestamp: MarketTime::from_genesis(origin.time),
            direction,
            tick_direction: moved,
            price,
            mark_price: worth.mark_shown(&self.listing),
            index_price: worth.index_shown(),
            amount,
            contracts: facts.contracts(amount),
            iv: worth.iv.map(|iv| facts.iv(iv)),
            liquidation: facts.liquidation(),
            block: facts.block(),
            combo: (origin.source.leg > 0).then(|| self.combo(&facts, &origin)).flatten(),
            legs,
            starbase: facts.starbase(),
            style: facts.chance,
        }
    }

    /// The trades of a combo's legs.
    fn legs(&self, origin: &Origin<'_>) -> Vec<MarketTrade> {
        let Terms::Combo { legs, .. } = &self.listing.terms else { return Vec::new() };
        legs.iter().filter_map(|leg| self.market.leg(leg.listing.place, origin)).collect()
    }

    /// The combo that a leg's trade belongs to.
    fn combo(&self, facts: &Facts<'_>, origin: &Origin<'_>) -> Option<ComboLeg> {
        let combo = self.market.listing_at(origin.source.stream, MarketTime::from_genesis(origin.time))?;
        let trade_id = facts.id(0);
        let as_number = trade_id.prefix.is_empty() && facts.chance & (1 << 40) == 0;
        Some(ComboLeg { combo_id: combo.name().clone(), trade_id, as_number })
    }

    fn direction(&self, facts: &Facts<'_>, origin: &Origin<'_>) -> Direction {
        let taken = facts.direction();
        if origin.source.leg == 0 {
            return taken;
        }
        // Who buys the combo may sell the leg.
        let combo = self.market.listing_at(origin.source.stream, MarketTime::from_genesis(origin.time));
        let sold = combo.is_some_and(|combo| match &combo.terms {
            Terms::Combo { legs, .. } => {
                legs.iter().any(|leg| leg.listing.place == self.listing.place && !leg.bought)
            }
            _ => false,
        });
        if sold { taken.reversed() } else { taken }
    }

    /// The price that the trade would have if it were the instrument's only one.
    ///
    /// A taker pays half the spread, and one whose order is filled in many parts moves the price by a tick each four parts.
    fn bare_price(&self, direction: Direction, origin: &Origin<'_>, worth: &Worth) -> f64 {
        let tick = self.tick(worth.mark);
        let swept = (origin.ordinal / 4) as f64;
        let price = worth.mark + direction.sign() * (worth.half_spread + swept * tick.size());
        match self.listing.terms {
            // Adding zero makes a negative zero positive.
            Terms::Combo { .. } => tick.nearest(price) + 0.0,
            _ => tick.nearest(price).max(tick.size()),
        }
    }

    /// The price, with the nudge that ends a standstill.
    fn price(&self, rank: u64, bare: f64, before: impl FnOnce() -> Option<f64>) -> f64 {
        let number = rank - self.base;
        if number > 0 && number.is_multiple_of(LONGEST_STANDSTILL) && before() == Some(bare) {
            return self.tick(bare).above(bare, 1.0);
        }
        bare
    }

    /// Price and move of the trade before the one of that rank.
    fn last_before(&self, rank: u64) -> Option<Last> {
        let mut at = rank.checked_sub(1).filter(|at| *at >= self.base)?;
        let mut past = Past { run: self, seen: None };
        let price = past.price(at);
        let mut moved = None;
        while at > self.base && moved.is_none() {
            at -= 1;
            let before = past.price(at);
            moved = (before != price).then(|| TickDirection::Plus.after(before, price));
        }
        // Whether a rise was the last trade or an earlier one makes no difference to the next.
        Some(Last { price, moved: moved.unwrap_or(TickDirection::Plus) })
    }

    fn tick(&self, price: f64) -> Tick {
        let family = self.listing.family;
        match self.listing.terms {
            Terms::Option { .. } if family.inverse && price >= 0.005 => Tick::new(5, 4),
            Terms::Option { .. } => family.option_tick,
            _ if self.listing.kind() == InstrumentKind::OptionCombo => family.option_tick,
            _ => family.tick,
        }
    }
}

/// Prices of a run's earlier trades, asked for backwards.
struct Past<'a> {
    run: &'a Run<'a>,
    /// The millisecond looked at last: trades often share one.
    seen: Option<(Leaf, Worth)>,
}

impl Past<'_> {
    fn price(&mut self, rank: u64) -> f64 {
        let bare = self.bare_price(rank);
        self.run.price(rank, bare, || Some(self.bare_price(rank - 1)))
    }

    fn bare_price(&mut self, rank: u64) -> f64 {
        let run = self.run;
        let (leaf, worth) = match self.seen {
            Some(seen) if seen.0.first <= rank && rank < seen.0.end() => seen,
            _ => {
                let leaf = run.place.tape.leaf(rank);
                (leaf, run.market.prices.worth(&run.listing, MarketTime::from_genesis(leaf.time)))
            }
        };
        self.seen = Some((leaf, worth));
        let origin = run.place.tape.origin(&leaf, rank);
        run.bare_price(run.direction(&Facts::of(run.market, &origin), &origin), &origin, &worth)
    }
}

/// What the trades of one event have in common: a combo's and those of its legs.
struct Facts<'a> {
    place: &'a Place,
    /// Of the place, at the event's millisecond.
    key: Key,
    time: u64,
    ordinal: u64,
    chance: u64,
}

impl<'a> Facts<'a> {
    fn of(market: &'a Market, origin: &Origin<'_>) -> Self {
        let place = market.places.get(origin.source.stream).expect("a source's stream is a place");
        let (time, ordinal) = (origin.time, origin.ordinal);
        let chance = place.key.child(name::TRADE).at(time * 256 + ordinal);
        Self { place, key: place.key, time, ordinal, chance }
    }

    fn family(&self) -> &'static Family {
        self.place.family
    }

    fn has_options(&self) -> bool {
        matches!(self.place.kind, InstrumentKind::Option | InstrumentKind::OptionCombo)
    }

    /// All trades of a millisecond have one side, and nine in ten are on the side that eight seconds are in the mood for: of
    /// the recorded perpetual's trades 91 % have the side of the one before.
    fn direction(&self) -> Direction {
        let bits = self.key.child(name::DIRECTION).at(self.time);
        let follows = unit(bits) < 0.9;
        let bits = if follows { self.key.child(name::MOOD).at(self.time >> 13) } else { bits };
        if bits & 1 == 0 { Direction::Buy } else { Direction::Sell }
    }

    fn id(&self, leg: u8) -> TradeId {
        let number =
            (self.time * self.place.of + self.place.number) * 1024 + self.ordinal * 4 + u64::from(leg);
        let prefix = match self.family().name {
            "BTC" => "",
            other => other,
        };
        TradeId { prefix, number }
    }

    fn amount(&self, index: f64) -> f64 {
        let family = self.family();
        let (table, lot, unit_size): (&[_], _, _) = if self.has_options() {
            (&LOTS, family.option_lot, family.option_lot.size())
        } else {
            (&DOLLARS, family.lot, if family.inverse { 1.0 } else { 1.0 / index })
        };
        lot.nearest(quantile(table, unit(self.chance)) * unit_size).max(lot.size())
    }

    fn contracts(&self, amount: f64) -> f64 {
        let family = self.family();
        let size = if self.has_options() { family.option_lot.size().max(1.0) } else { family.contract_size };
        decimal(amount / size, 4)
    }

    /// Of a trade, near the mark's; for some trades the exchange has none and says 0.
    fn iv(&self, mark: f64) -> f64 {
        if self.chance & 511 == 0 {
            return 0.0;
        }
        decimal(mark * (0.98 + 0.04 * unit(self.chance.rotate_left(24))), 2)
    }

    fn liquidation(&self) -> Option<&'static str> {
        let bits = self.key.child(name::LIQUIDATION).at(self.time);
        if self.place.kind != InstrumentKind::Future || bits & 255 != 0 {
            return None;
        }
        Some(match bits >> 60 {
            0..13 => "T",
            13..15 => "M",
            _ => "MT",
        })
    }

    fn block(&self) -> Option<Block> {
        let bits = self.key.child(name::BLOCK).at(self.time);
        let one_in = match self.place.kind {
            InstrumentKind::Option => 32,
            InstrumentKind::OptionCombo | InstrumentKind::FutureCombo => 8,
            InstrumentKind::Future | InstrumentKind::Spot => 2048,
        };
        let leg_count = if self.place.kind.is_combo() { 2 } else { 1 };
        let rfq = (bits & (1 << 20) == 0).then_some(bits >> 45);
        bits.is_multiple_of(one_in).then_some(Block { number: bits >> 40, leg_count, rfq })
    }

    /// There in one hour of four.
    fn starbase(&self) -> Option<Starbase> {
        let bits = self.key.child(name::STARBASE).at(self.time >> 22);
        let timestamp = MarketTime::from_genesis(self.time).0 * 1_000_000 + self.chance % 1_000_000;
        (bits & 3 == 0).then_some(Starbase { match_id: (1 << 54) | (self.chance >> 10), timestamp })
    }
}

/// The value below which that share of a distribution lies, by straight lines between known points.
fn quantile(table: &[(f64, f64)], share: f64) -> f64 {
    let mut points = table.iter().zip(table.iter().skip(1));
    let segment = points.find(|(_, (upper, _))| share < *upper);
    segment.map_or(0.0, |((lower, from), (upper, to))| from + (to - from) * (share - lower) / (upper - lower))
}
