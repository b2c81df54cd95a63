//! The market: a pure function of seed, options and time.
//!
//! Nothing here accumulates. Every question (which instruments are there, how many trades came before an instant, what
//! was trade 4711 of an instrument) is answered from the seed by hashing coordinates, in a time that does not depend on
//! how long the market has been open.
//!
//! | module | what it decides |
//! |---|---|
//! | `universe`, `family`, `calendar`, `listing` | which instruments there are, and when |
//! | `arrival`, `tape` | when trades happen |
//! | `price`, `making`, `json` | what they are, and how they are written |
//! | `history`, `cursor` | which of them a question is about |

mod arrival;
mod calendar;
mod cursor;
mod facts;
mod family;
mod history;
mod json;
mod listing;
mod making;
pub(crate) mod noise;
mod price;
mod tape;
mod tick;
mod time;
mod trade;
mod universe;

use noise::Key;
use price::Prices;
use universe::{Place, PlaceId};

pub use cursor::Cursor;
pub use facts::Facts;
pub use family::{Currency, InstrumentKind};
pub use history::{Filter, InstrumentKinds, Page, Take};
pub use listing::Listing;
pub use time::MarketTime;
pub use trade::{Block, ComboLeg, Direction, MarketTrade, Starbase, TickDirection, TradeId};

/// What a market depends on, besides time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Two markets of different seeds have nothing in common.
    pub seed: u64,
    /// Active instruments at any time.
    pub instruments: usize,
    /// Mean trades per second over all instruments; those of combos count once for the combo and once for each leg.
    pub rate: f64,
}

/// The market of some options.
#[derive(Debug, Clone)]
pub struct Market {
    options: Options,
    places: Vec<Place>,
    prices: Prices,
    holes: Option<Holes>,
}

/// Which numbers have no trade, decided for each by itself.
#[derive(Debug, Clone, Copy)]
struct Holes {
    key: Key,
    one_in: u64,
}

impl Market {
    /// Makes the market; it has been open since [`MarketTime::GENESIS`].
    #[must_use]
    pub fn new(options: Options) -> Self {
        let key = Key::new(options.seed);
        let places = universe::places(key.child(1), options.instruments, options.rate);
        Self { options, places, prices: Prices::new(key.child(2)), holes: None }
    }

    /// The same market, but one number in so many has no trade, by this seed.
    #[must_use]
    pub fn with_holes(self, (seed, one_in): (u64, u64)) -> Self {
        Self { holes: Some(Holes { key: Key::new(seed), one_in: one_in.max(1) }), ..self }
    }

    /// What it was made from.
    #[must_use]
    pub fn options(&self) -> Options {
        self.options
    }

    /// The instruments that can be traded at that time.
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

    /// The instrument of that name, whether it is listed at present or not.
    #[must_use]
    pub fn instrument(&self, name: &str) -> Option<Listing> {
        listing::of_name(&self.places, &self.prices, name)
    }

    /// Whether the place's trade of that rank was never made.
    fn is_hole(&self, id: PlaceId, rank: u64) -> bool {
        let at = |holes: &Holes| holes.key.child(id as u64).at(rank);
        self.holes.as_ref().is_some_and(|holes| at(holes).is_multiple_of(holes.one_in))
    }

    fn listing_at(&self, id: PlaceId, at: MarketTime) -> Option<Listing> {
        if at < MarketTime::GENESIS { None } else { listing::at(&self.places, &self.prices, id, at) }
    }
}
