//! The instrument that holds a place at a time: its name, life and terms.

use std::sync::Arc;

use super::calendar::{Life, date_name, date_of};
use super::family::{Currency, Family, InstrumentKind};
use super::price::Prices;
use super::time::MarketTime;
use super::universe::{Form, Place, PlaceId, Product, Side};

/// An instrument from its listing to its expiry.
#[derive(Debug, Clone)]
pub struct Listing {
    pub(crate) place: PlaceId,
    pub(crate) family: &'static Family,
    pub(crate) life: Life,
    pub(crate) terms: Terms,
    name: Arc<str>,
    kind: InstrumentKind,
}

/// Terms that depend on the kind of instrument.
#[derive(Debug, Clone)]
pub(crate) enum Terms {
    Perpetual,
    Spot,
    Future,
    Option { side: Side, strike: Strike },
    Combo { form: Form, legs: Box<[Leg; 2]> },
}

/// A leg of a combo.
#[derive(Debug, Clone)]
pub(crate) struct Leg {
    pub(crate) listing: Listing,
    /// Whether the buyer of the combo buys this leg.
    pub(crate) bought: bool,
}

/// A strike in ten-thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Strike(u64);

impl Strike {
    pub(crate) fn price(self) -> f64 {
        self.0 as f64 / 10_000.0
    }

    /// As in instrument names: `63000`, `0d625`.
    fn name(self) -> String {
        let (whole, rest) = (self.0 / 10_000, self.0 % 10_000);
        if rest == 0 {
            whole.to_string()
        } else {
            format!("{whole}d{rest:04}").trim_end_matches('0').to_owned()
        }
    }
}

impl Listing {
    /// The name, such as `BTC-PERPETUAL`.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The kind of the instrument.
    #[must_use]
    pub fn kind(&self) -> InstrumentKind {
        self.kind
    }

    /// The currency that channels and history select it by.
    #[must_use]
    pub fn currency(&self) -> Currency {
        self.family.currency
    }

    /// When it was listed. It may trade from then on.
    #[must_use]
    pub fn listed_at(&self) -> MarketTime {
        self.life.from
    }

    /// When it expires; all its trades are earlier. [`MarketTime::NEVER`] for perpetuals and spot.
    #[must_use]
    pub fn expires_at(&self) -> MarketTime {
        self.life.until
    }

    /// Whether it can be traded at that time.
    #[must_use]
    pub fn is_active(&self, at: MarketTime) -> bool {
        self.life.holds(at)
    }
}

/// The instrument that holds place `id` at `t`. `t` must not be before genesis.
pub(crate) fn at(places: &[Place], prices: &Prices, id: PlaceId, t: MarketTime) -> Option<Listing> {
    let place = places.get(id)?;
    let life = life(places, place, t)?;
    let terms = match place.product {
        Product::Perpetual => Terms::Perpetual,
        Product::Spot => Terms::Spot,
        Product::Future(_) => Terms::Future,
        Product::Option { side, rung, reach, .. } => {
            let strike =
                strike(place.family, prices.dollars(place.family.coin, life.from), life, rung, reach);
            Terms::Option { side, strike }
        }
        Product::Combo { form, legs: [a, b] } => Terms::Combo {
            form,
            legs: Box::new(ordered(form, at(places, prices, a, t)?, at(places, prices, b, t)?)),
        },
    };
    let name = name(place.family, life, &terms).into();
    Some(Listing { place: id, family: place.family, life, terms, name, kind: place.kind })
}

/// The life of the instrument that holds a place at `t`.
pub(crate) fn life(places: &[Place], place: &Place, t: MarketTime) -> Option<Life> {
    let life = match place.product {
        Product::Perpetual | Product::Spot => Life { from: MarketTime::GENESIS, until: MarketTime::NEVER },
        Product::Future(rotation) | Product::Option { rotation, .. } => rotation.life(t),
        Product::Combo { legs: [a, b], .. } => {
            life(places, places.get(a)?, t)?.shared_with(life(places, places.get(b)?, t)?)
        }
    };
    Some(Life { from: life.from.max(MarketTime::GENESIS), ..life })
}

/// The instrument of that name, active or not.
pub(crate) fn of_name(places: &[Place], prices: &Prices, name: &str) -> Option<Listing> {
    // All contracts of a date, and the combos that expire with them, held their places the moment before.
    let expiry = name.split(['-', '_']).filter_map(date_of).min();
    let moment = expiry.map_or(MarketTime::GENESIS, |expiry| expiry.minus(1));
    if moment < MarketTime::GENESIS {
        return None;
    }
    let family = name.split('-').next().unwrap_or(name);
    let candidates = places.iter().enumerate().filter(|(_, place)| {
        place.family.name == family
            && life(places, place, moment)
                .is_some_and(|life| life.until == expiry.unwrap_or(MarketTime::NEVER))
    });
    candidates.filter_map(|(id, _)| at(places, prices, id, moment)).find(|listing| &*listing.name == name)
}

/// The legs in the order of the combo's name, each with the side that a buyer of the combo takes.
fn ordered(form: Form, a: Listing, b: Listing) -> [Leg; 2] {
    let key = |listing: &Listing| match &listing.terms {
        Terms::Option { strike, .. } => strike.0,
        // The perpetual is named last, the later future first.
        Terms::Future => u64::MAX - listing.life.until.0,
        _ => u64::MAX,
    };
    let (first, second) = if key(&a) <= key(&b) { (a, b) } else { (b, a) };
    let bought = match form {
        Form::Calendar | Form::CallSpread => [true, false],
        Form::PutSpread => [false, true],
        Form::Straddle => [true, true],
    };
    let [buys_first, buys_second] = bought;
    [Leg { listing: first, bought: buys_first }, Leg { listing: second, bought: buys_second }]
}

fn name(family: &Family, life: Life, terms: &Terms) -> String {
    let family = family.name;
    match terms {
        Terms::Perpetual => format!("{family}-PERPETUAL"),
        Terms::Spot => family.to_owned(),
        Terms::Future => format!("{family}-{}", date_name(life.until)),
        Terms::Option { side, strike } => {
            let side = if *side == Side::Call { "C" } else { "P" };
            format!("{family}-{}-{}-{side}", date_name(life.until), strike.name())
        }
        Terms::Combo { form, legs } => {
            let [first, second] = legs.each_ref().map(|leg| part(&leg.listing));
            let date = date_name(life.until);
            match form {
                Form::Calendar => format!("{family}-FS-{first}_{second}"),
                Form::CallSpread => format!("{family}-CS-{date}-{first}_{second}"),
                Form::PutSpread => format!("{family}-PS-{date}-{first}_{second}"),
                Form::Straddle => format!("{family}-STRD-{date}-{first}"),
            }
        }
    }
}

/// The part of a leg in the name of its combo.
fn part(leg: &Listing) -> String {
    match &leg.terms {
        Terms::Option { strike, .. } => strike.name(),
        Terms::Future => date_name(leg.life.until),
        _ => "PERP".to_owned(),
    }
}

/// The strike `rung` steps from the price at listing.
///
/// The step grows with the life of the option. The ladder has `reach` steps to either side and must not end below a fifth of the price.
fn strike(family: &Family, dollars: f64, life: Life, rung: i32, reach: i32) -> Strike {
    let price = dollars / family.quote_in_dollars * 10_000.0;
    let days = (life.until.0 - life.from.0) as f64 / super::time::MILLIS_PER_DAY as f64;
    let usual: f64 = match days {
        ..4.0 => 0.008,
        ..31.0 => 0.016,
        ..100.0 => 0.04,
        _ => 0.08,
    };
    let step = round_number(price * usual.min(0.8 / f64::from(reach.max(1))));
    let units = ((price / step).round() + f64::from(rung)) * step;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the ladder stays above zero, far below 2^53"
    )]
    Strike(units.max(1.0) as u64)
}

/// The largest of 1, 2, 2.5 and 5 times a power of ten that is not above `limit` (by more than 2 %), at least 10.
fn round_number(limit: f64) -> f64 {
    let mut best = 10.0;
    let mut power = 10.0;
    while power <= limit * 1.02 {
        for step in [1.0, 2.0, 2.5, 5.0] {
            if step * power <= limit * 1.02 {
                best = step * power;
            }
        }
        power *= 10.0;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strikes_are_named_as_the_exchange_names_them() {
        assert_eq!(Strike(630_000_000).name(), "63000");
        assert_eq!(Strike(6_250).name(), "0d625");
        assert_eq!(Strike(11_000).name(), "1d1");
    }

    #[test]
    fn steps_are_round_numbers() {
        assert_eq!([504.0, 26.0, 62.0, 12.0, 4.0].map(round_number), [500.0, 25.0, 50.0, 10.0, 10.0]);
    }
}
