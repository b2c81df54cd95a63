//! The market: a pure function of seed, options and time.
//!
//! The market keeps no state. Every query (instruments at a time, number of trades before an instant, the N-th trade of an instrument) is
//! answered by hashing the seed and coordinates. The cost does not depend on how long the market has been open.
//!
//! | module | what it decides |
//! |---|---|
//! | `universe`, `family`, `calendar`, `listing` | which instruments exist, and when |
//! | `arrivals`, `tape` | when trades happen |
//! | `price`, `trade_generator`, `json` | the fields of a trade, and its JSON |
//! | `history`, `cursor` | the trades of a query |

mod arrivals;
mod calendar;
mod contract;
mod cursor;
mod family;
mod history;
mod json;
mod listing;
pub(crate) mod noise;
mod price;
mod tape;
mod tick;
mod time;
mod trade;
mod trade_generator;
mod universe;

use noise::Key;
use price::Prices;
use universe::{Place, PlaceId};

pub use contract::ContractTerms;
pub use cursor::Cursor;
pub use family::{Currency, InstrumentKind};
pub use history::{Filter, HistoryPage, InstrumentKinds, Take};
pub use listing::Listing;
pub use time::MarketTime;
pub use trade::{Block, ComboLeg, Direction, MarketTrade, Starbase, TickDirection, TradeId};

/// Everything that a market depends on, besides time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Two markets of different seeds have nothing in common.
    pub seed: u64,
    /// Active instruments at any time.
    pub instruments: usize,
    /// Mean trades per second over all instruments; those of combos count once for the combo and once for each leg.
    pub rate: f64,
}

/// A market with its instruments and prices.
#[derive(Debug, Clone)]
pub struct Market {
    options: Options,
    places: Vec<Place>,
    prices: Prices,
    holes: Option<MarketHoles>,
}

/// Ranks without a trade: each is one with a chance of one in `one_in`.
#[derive(Debug, Clone, Copy)]
pub struct MarketHoles {
    key: Key,
    one_in: u64,
}

impl MarketHoles {
    /// Holes of that seed; `one_in` is at least 1.
    #[must_use]
    pub fn new(seed: u64, one_in: u64) -> Self {
        Self { key: Key::new(seed), one_in: one_in.max(1) }
    }
}

impl Market {
    /// Creates the market; it is open since [`MarketTime::GENESIS`].
    #[must_use]
    pub fn new(options: Options) -> Self {
        let key = Key::new(options.seed);
        let places = universe::places(key.child(1), options.instruments, options.rate);
        Self { options, places, prices: Prices::new(key.child(2)), holes: None }
    }

    /// The same market with holes: one sequence number in `one_in` has no trade.
    #[must_use]
    pub fn with_holes(self, holes: MarketHoles) -> Self {
        Self { holes: Some(holes), ..self }
    }

    /// The options that the market was created with.
    #[must_use]
    pub fn options(&self) -> Options {
        self.options
    }

    /// The instruments that are active at that time.
    pub fn listings(&self, at: MarketTime) -> impl Iterator<Item = Listing> {
        (0..self.places.len()).filter_map(move |id| self.listing_at(id, at))
    }

    /// The instruments that expired between two times, the second included.
    pub fn expired(&self, after: MarketTime, until: MarketTime) -> impl Iterator<Item = Listing> {
        (0..self.places.len()).flat_map(move |id| {
            let before = move |listing: &Listing| self.listing_at(id, listing.listed_at().minus(1));
            let current = self.listing_at(id, until);
            let past = std::iter::successors(current.as_ref().and_then(before), before);
            past.take_while(move |listing| listing.expires_at() > after).collect::<Vec<_>>()
        })
    }

    /// The instrument of that name, active or not.
    #[must_use]
    pub fn instrument(&self, name: &str) -> Option<Listing> {
        listing::of_name(&self.places, &self.prices, name)
    }

    /// Whether the rank of that place has no trade.
    fn is_hole(&self, id: PlaceId, rank: u64) -> bool {
        let at = |holes: &MarketHoles| holes.key.child(id as u64).at(rank);
        self.holes.as_ref().is_some_and(|holes| at(holes).is_multiple_of(holes.one_in))
    }

    fn listing_at(&self, id: PlaceId, at: MarketTime) -> Option<Listing> {
        if at < MarketTime::GENESIS { None } else { listing::at(&self.places, &self.prices, id, at) }
    }
}
