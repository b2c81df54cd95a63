//! Generates trades from their ranks: every field but the time.

use std::ops::Range;

use super::Market;
use super::family::{Family, InstrumentKind};
use super::listing::{Listing, Terms};
use super::noise::{Key, unit};
use super::price::Valuation;
use super::tape::{Leaf, TradeOrigin};
use super::tick::{TickGrid, decimal};
use super::time::MarketTime;
use super::trade::{Block, ComboLeg, Direction, MarketTrade, Starbase, TickDirection, TradeId};
use super::universe::{Place, PlaceId};

/// Coordinates of random decisions within the key of a place; 0 is its arrivals.
mod name {
    pub(super) const DIRECTION: u64 = 1;
    pub(super) const MOOD: u64 = 2;
    pub(super) const TRADE: u64 = 3;
    pub(super) const LIQUIDATION: u64 = 4;
    pub(super) const BLOCK: u64 = 5;
    pub(super) const STARBASE: u64 = 6;
}

/// After this many trades of an instrument the price must change. The tick direction of equal prices depends on the last change, so the
/// search for that change needs a bound.
const MAX_EQUAL_PRICES: u64 = 64;

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

/// Generates the trades of one instrument.
struct TradeGenerator<'a> {
    market: &'a Market,
    place: &'a Place,
    listing: Listing,
    /// Rank of the first trade of the instrument.
    base: u64,
}

/// The price of a trade and its tick direction.
#[derive(Clone, Copy)]
struct LastPrice {
    price: f64,
    moved: TickDirection,
}

impl Market {
    /// Appends the trades of these ranks of a place, in order.
    pub(super) fn make(&self, id: PlaceId, ranks: Range<u64>, out: &mut Vec<MarketTrade>) {
        let Some(place) = self.places.get(id) else { return };
        let mut rank = ranks.start;
        let mut generator: Option<TradeGenerator<'_>> = None;
        let mut last = None;
        while rank < ranks.end {
            let leaf = place.tape.leaf(rank);
            let time = MarketTime::from_genesis(leaf.time);
            if generator.as_ref().is_none_or(|generator| !generator.listing.life.holds(time)) {
                let Some(next) = TradeGenerator::at(self, id, time) else { return };
                last = next.last_before(rank);
                generator = Some(next);
            }
            let Some(generator) = &generator else { return };
            let valuation = self.prices.valuation(&generator.listing, time);
            let end = leaf.end().min(ranks.end);
            while rank < end {
                let trade = generator.trade(place.tape.origin(&leaf, rank), rank, &valuation, last);
                last = Some(LastPrice { price: trade.price, moved: trade.tick_direction });
                if !self.is_hole(id, rank) {
                    out.push(trade);
                }
                rank += 1;
            }
        }
    }

    /// The trade of a combo as it appears at one of the combo's legs.
    fn leg(&self, leg: PlaceId, origin: &TradeOrigin<'_>) -> Option<MarketTrade> {
        let rank = self.places.get(leg)?.tape.rank(origin.source.stream, origin.time, origin.ordinal);
        let mut trades = Vec::with_capacity(1);
        self.make(leg, rank..rank + 1, &mut trades);
        trades.pop()
    }
}

impl<'a> TradeGenerator<'a> {
    /// The instrument that holds the place at that time.
    fn at(market: &'a Market, id: PlaceId, time: MarketTime) -> Option<Self> {
        let place = market.places.get(id)?;
        let listing = market.listing_at(id, time)?;
        let base = place.tape.before(listing.life.from.since_genesis());
        Some(Self { market, place, listing, base })
    }

    /// The trade of that origin and rank; `last` is the trade before it.
    fn trade(
        &self,
        origin: TradeOrigin<'_>,
        rank: u64,
        valuation: &Valuation,
        last: Option<LastPrice>,
    ) -> MarketTrade {
        let inputs = TradeInputs::of(self.market, &origin);
        let direction = self.direction(&inputs, &origin);
        let price =
            self.price(rank, self.bare_price(direction, &origin, valuation), || last.map(|last| last.price));
        let moved = last.map_or(TickDirection::Plus, |last| last.moved.after(last.price, price));
        let amount = inputs.amount(valuation.index);
        let legs = self.legs(&origin);
        MarketTrade {
            instrument_name: self.listing.name().clone(),
            kind: self.listing.kind(),
            currency: self.listing.currency(),
            trade_seq: rank - self.base + 1,
            trade_id: inputs.id(origin.source.leg),
            timestamp: MarketTime::from_genesis(origin.time),
            direction,
            tick_direction: moved,
            price,
            mark_price: valuation.mark_shown(&self.listing),
            index_price: valuation.index_shown(),
            amount,
            contracts: inputs.contracts(amount),
            iv: valuation.iv.map(|iv| inputs.iv(iv)),
            liquidation: inputs.liquidation(),
            block: inputs.block(),
            combo: (origin.source.leg > 0).then(|| self.combo(&inputs, &origin)).flatten(),
            legs,
            starbase: inputs.starbase(),
            style: inputs.chance,
        }
    }

    /// The trades of a combo's legs.
    fn legs(&self, origin: &TradeOrigin<'_>) -> Vec<MarketTrade> {
        let Terms::Combo { legs, .. } = &self.listing.terms else { return Vec::new() };
        legs.iter().filter_map(|leg| self.market.leg(leg.listing.place, origin)).collect()
    }

    /// The combo that a leg's trade belongs to.
    fn combo(&self, inputs: &TradeInputs<'_>, origin: &TradeOrigin<'_>) -> Option<ComboLeg> {
        let combo = self.market.listing_at(origin.source.stream, MarketTime::from_genesis(origin.time))?;
        let trade_id = inputs.id(0);
        let as_number = trade_id.prefix.is_empty() && inputs.chance & (1 << 40) == 0;
        Some(ComboLeg { combo_id: combo.name().clone(), trade_id, as_number })
    }

    fn direction(&self, inputs: &TradeInputs<'_>, origin: &TradeOrigin<'_>) -> Direction {
        let taken = inputs.direction();
        if origin.source.leg == 0 {
            return taken;
        }
        // The buyer of a combo may sell one of its legs.
        let combo = self.market.listing_at(origin.source.stream, MarketTime::from_genesis(origin.time));
        let sold = combo.is_some_and(|combo| match &combo.terms {
            Terms::Combo { legs, .. } => {
                legs.iter().any(|leg| leg.listing.place == self.listing.place && !leg.bought)
            }
            _ => false,
        });
        if sold { taken.reversed() } else { taken }
    }

    /// The price without regard to earlier trades.
    ///
    /// A taker pays half the spread. An order that is filled in many parts moves the price by one tick every four parts.
    fn bare_price(&self, direction: Direction, origin: &TradeOrigin<'_>, valuation: &Valuation) -> f64 {
        let tick = self.tick(valuation.mark);
        let swept = (origin.ordinal / 4) as f64;
        let price = valuation.mark + direction.sign() * (valuation.half_spread + swept * tick.size());
        match self.listing.terms {
            // Adding zero makes a negative zero positive.
            Terms::Combo { .. } => tick.nearest(price) + 0.0,
            _ => tick.nearest(price).max(tick.size()),
        }
    }

    /// The price, moved by one tick after too many equal prices.
    fn price(&self, rank: u64, bare: f64, before: impl FnOnce() -> Option<f64>) -> f64 {
        let number = rank - self.base;
        if number > 0 && number.is_multiple_of(MAX_EQUAL_PRICES) && before() == Some(bare) {
            return self.tick(bare).above(bare, 1.0);
        }
        bare
    }

    /// Price and tick direction of the trade before that rank.
    fn last_before(&self, rank: u64) -> Option<LastPrice> {
        let mut at = rank.checked_sub(1).filter(|at| *at >= self.base)?;
        let mut past = PriceHistory { generator: self, seen: None };
        let price = past.price(at);
        let mut moved = None;
        while at > self.base && moved.is_none() {
            at -= 1;
            let before = past.price(at);
            moved = (before != price).then(|| TickDirection::Plus.after(before, price));
        }
        // `Plus` and `ZeroPlus` have the same effect on the next trade.
        Some(LastPrice { price, moved: moved.unwrap_or(TickDirection::Plus) })
    }

    fn tick(&self, price: f64) -> TickGrid {
        let family = self.listing.family;
        match self.listing.terms {
            Terms::Option { .. } if family.inverse && price >= 0.005 => TickGrid::new(5, 4),
            Terms::Option { .. } => family.option_tick,
            _ if self.listing.kind() == InstrumentKind::OptionCombo => family.option_tick,
            _ => family.tick,
        }
    }
}

/// Prices of earlier trades, read backwards.
struct PriceHistory<'a> {
    generator: &'a TradeGenerator<'a>,
    /// The last millisecond read: trades often share one.
    seen: Option<(Leaf, Valuation)>,
}

impl PriceHistory<'_> {
    fn price(&mut self, rank: u64) -> f64 {
        let bare = self.bare_price(rank);
        self.generator.price(rank, bare, || Some(self.bare_price(rank - 1)))
    }

    fn bare_price(&mut self, rank: u64) -> f64 {
        let generator = self.generator;
        let (leaf, valuation) = match self.seen {
            Some(seen) if seen.0.first <= rank && rank < seen.0.end() => seen,
            _ => {
                let leaf = generator.place.tape.leaf(rank);
                (
                    leaf,
                    generator
                        .market
                        .prices
                        .valuation(&generator.listing, MarketTime::from_genesis(leaf.time)),
                )
            }
        };
        self.seen = Some((leaf, valuation));
        let origin = generator.place.tape.origin(&leaf, rank);
        generator.bare_price(
            generator.direction(&TradeInputs::of(generator.market, &origin), &origin),
            &origin,
            &valuation,
        )
    }
}

/// Inputs that the trades of one event share: a combo's trade and those of its legs.
struct TradeInputs<'a> {
    place: &'a Place,
    /// The key of the place.
    key: Key,
    time: u64,
    ordinal: u64,
    chance: u64,
}

impl<'a> TradeInputs<'a> {
    fn of(market: &'a Market, origin: &TradeOrigin<'_>) -> Self {
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

    /// All trades of a millisecond have one side. Nine in ten follow the prevailing side of their eight seconds: 91 % of the recorded
    /// perpetual's trades have the side of the trade before.
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

    /// The implied volatility of a trade, near the mark's. The exchange writes 0 for some trades.
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

    /// Present in about one hour of four.
    fn starbase(&self) -> Option<Starbase> {
        let bits = self.key.child(name::STARBASE).at(self.time >> 22);
        let timestamp = MarketTime::from_genesis(self.time).0 * 1_000_000 + self.chance % 1_000_000;
        (bits & 3 == 0).then_some(Starbase { match_id: (1 << 54) | (self.chance >> 10), timestamp })
    }
}

/// The quantile of a distribution, interpolated linearly between known points.
fn quantile(table: &[(f64, f64)], share: f64) -> f64 {
    let mut points = table.iter().zip(table.iter().skip(1));
    let segment = points.find(|(_, (upper, _))| share < *upper);
    segment.map_or(0.0, |((lower, from), (upper, to))| from + (to - from) * (share - lower) / (upper - lower))
}
