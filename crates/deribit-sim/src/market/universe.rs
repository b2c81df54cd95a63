//! Which instruments exist: a fixed number of places, each held by one instrument after another.
//!
//! A perpetual or a spot pair holds its place forever. The place of a dated contract goes to its successor at expiry. So the number of active
//! instruments is constant, and the instrument at a place depends on the time alone.

use std::collections::HashMap;

use super::arrivals::Arrivals;
use super::calendar::{Rotation, Term};
use super::family::{
    ADA_USDC, BTC, BTC_EURR, BTC_USDC, BTC_USDT, Currency, DOGE_USDC, ETH, ETH_EURR, ETH_USDC, ETH_USDT,
    Family, InstrumentKind, SOL_USDC, XRP_USDC,
};
use super::noise::Key;
use super::tape::{TapeSource, TradeTape};

/// Index of a place; also the number of its stream of arrivals.
pub(crate) type PlaceId = usize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Side {
    Call,
    Put,
}

/// How two legs form a combo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// The later future less the earlier one, or a future less the perpetual.
    Calendar,
    /// The call of the lower strike less that of the higher.
    CallSpread,
    /// The put of the higher strike less that of the lower.
    PutSpread,
    /// A call plus the put of the same strike.
    Straddle,
}

/// The product that is traded at a place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Product {
    Perpetual,
    Spot,
    Future(Rotation),
    Option {
        rotation: Rotation,
        side: Side,
        /// Steps of the strike ladder above the price at listing.
        rung: i32,
        /// Steps from the middle of the ladder to its end.
        reach: i32,
    },
    Combo {
        form: Form,
        legs: [PlaceId; 2],
    },
}

/// A place in the market.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) family: &'static Family,
    pub(crate) kind: InstrumentKind,
    pub(crate) product: Product,
    /// Key of the random decisions of its stream.
    pub(crate) key: Key,
    pub(crate) tape: TradeTape,
    /// Index among the `of` places of its currency. Trade ids are composed of both.
    pub(crate) number: u64,
    pub(crate) of: u64,
}

const PERPETUALS: [&Family; 8] =
    [&BTC, &ETH, &BTC_USDC, &ETH_USDC, &SOL_USDC, &XRP_USDC, &DOGE_USDC, &ADA_USDC];
const SPOT: [&Family; 8] =
    [&BTC_USDC, &ETH_USDC, &BTC_USDT, &ETH_USDT, &BTC_EURR, &ETH_EURR, &SOL_USDC, &XRP_USDC];
/// The families of options; each appears as often as its share in tenths.
const OPTIONS: [&Family; 10] = [&BTC, &ETH, &BTC, &BTC_USDC, &BTC, &ETH, &XRP_USDC, &BTC, &ETH, &BTC];

const fn rotation(term: Term, of: u64, place: u64) -> Rotation {
    Rotation { term, of, place }
}

const FUTURES: [Rotation; 8] = [
    rotation(Term::Quarterly, 4, 0),
    rotation(Term::Weekly, 2, 0),
    rotation(Term::Quarterly, 4, 1),
    rotation(Term::Monthly, 2, 0),
    rotation(Term::Weekly, 2, 1),
    rotation(Term::Quarterly, 4, 2),
    rotation(Term::Monthly, 2, 1),
    rotation(Term::Quarterly, 4, 3),
];

const EXPIRIES: [Rotation; 11] = [
    rotation(Term::Daily, 3, 0),
    rotation(Term::Quarterly, 4, 0),
    rotation(Term::Daily, 3, 1),
    rotation(Term::Weekly, 2, 0),
    rotation(Term::Monthly, 2, 0),
    rotation(Term::Daily, 3, 2),
    rotation(Term::Quarterly, 4, 1),
    rotation(Term::Weekly, 2, 1),
    rotation(Term::Quarterly, 4, 2),
    rotation(Term::Monthly, 2, 1),
    rotation(Term::Quarterly, 4, 3),
];

/// Shares of the kinds in all trades. Of the recorded bitcoin trades 93 % are the perpetual's, 5 % the futures' and 1 % the options'. Here
/// the others get more, so that they have enough trades.
const fn share(kind: InstrumentKind, perpetual: bool) -> f64 {
    match kind {
        InstrumentKind::Future if perpetual => 0.60,
        InstrumentKind::Future => 0.12,
        InstrumentKind::Spot => 0.06,
        InstrumentKind::Option => 0.18,
        InstrumentKind::FutureCombo | InstrumentKind::OptionCombo => 0.02,
    }
}

/// Coordinate of the arrivals within the key of a place; [`super::trade_generator`] has the others.
const ARRIVALS: u64 = 0;

/// A place before its arrivals are known.
type Draft = (&'static Family, InstrumentKind, Product);

/// Creates `count` places with `rate` trades a second in total.
pub(crate) fn places(key: Key, count: usize, rate: f64) -> Vec<Place> {
    let drafts = drafts(count);
    let arrivals = arrivals(key, &drafts, rate);
    let mut of_currency: HashMap<Currency, u64> = HashMap::new();
    for (family, ..) in &drafts {
        *of_currency.entry(family.currency).or_default() += 1;
    }
    let mut numbers: HashMap<Currency, u64> = HashMap::new();
    let mut places: Vec<Place> = Vec::with_capacity(drafts.len());
    for ((id, (family, kind, product)), tape) in drafts.iter().enumerate().zip(tapes(&drafts, &arrivals)) {
        let number = numbers.entry(family.currency).or_default();
        let of = of_currency.get(&family.currency).copied().unwrap_or(1);
        places.push(Place {
            family,
            kind: *kind,
            product: *product,
            key: key.child(id as u64),
            tape,
            number: *number,
            of,
        });
        *number += 1;
    }
    places
}

/// Perpetuals, futures, spot, then options with a tenth of combos.
fn drafts(count: usize) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = Vec::with_capacity(count);
    drafts.extend(PERPETUALS.map(|family| (family, InstrumentKind::Future, Product::Perpetual)));
    drafts.extend(FUTURES.iter().flat_map(|&rotation| {
        [&BTC, &ETH].map(|family| (family, InstrumentKind::Future, Product::Future(rotation)))
    }));
    drafts.extend(SPOT.map(|family| (family, InstrumentKind::Spot, Product::Spot)));
    let rest = count.saturating_sub(drafts.len());
    let futures = future_combos(&drafts);
    let wanted = rest / 10;
    let options_from = drafts.len();
    drafts.extend(options(rest - wanted));
    let option_combos = option_combos(drafts.get(options_from..).unwrap_or(&[]), options_from);
    // Half of the combos are on futures; more if there are too few options for pairs.
    let on_futures = wanted.div_ceil(2).max(wanted.saturating_sub(option_combos.len())).min(futures.len());
    drafts.extend(futures.into_iter().take(on_futures));
    drafts.extend(option_combos.into_iter().take(wanted - on_futures));
    drafts.truncate(count);
    drafts
}

fn options(count: usize) -> Vec<Draft> {
    let mut made: HashMap<&str, usize> = HashMap::new();
    let mut drafts: Vec<Draft> = Vec::with_capacity(count);
    for &family in OPTIONS.iter().cycle().take(count) {
        let number = made.entry(family.name).or_default();
        let ladder = *number / EXPIRIES.len();
        let side = if ladder.is_multiple_of(2) { Side::Put } else { Side::Call };
        let rotation =
            EXPIRIES.get(*number % EXPIRIES.len()).copied().expect("a remainder is below the length");
        drafts.push((
            family,
            InstrumentKind::Option,
            Product::Option { rotation, side, rung: zigzag(ladder / 2), reach: 0 },
        ));
        *number += 1;
    }
    for (family, _, product) in &mut drafts {
        if let Product::Option { reach, .. } = product {
            *reach = zigzag(made.get(family.name).map_or(0, |count| count / EXPIRIES.len() / 2 + 2)).abs();
        }
    }
    drafts
}

/// 0, 1, -1, 2, -2, …
fn zigzag(n: usize) -> i32 {
    let steps = i32::try_from(n.div_ceil(2)).unwrap_or(i32::MAX);
    if n.is_multiple_of(2) { -steps } else { steps }
}

/// Each future with the perpetual and with each future before it.
fn future_combos(drafts: &[Draft]) -> Vec<Draft> {
    let of = |family: &'static Family| -> Vec<PlaceId> {
        let mine = drafts
            .iter()
            .enumerate()
            .filter(|(_, (other, kind, _))| *kind == InstrumentKind::Future && other.name == family.name);
        mine.map(|(id, _)| id).collect()
    };
    let legs = [(&BTC, of(&BTC)), (&ETH, of(&ETH))];
    let mut combos = Vec::new();
    for number in 1..=FUTURES.len() {
        for (family, ids) in &legs {
            let Some(&second) = ids.get(number) else { continue };
            for &first in ids.iter().take(number) {
                let product = Product::Combo { form: Form::Calendar, legs: [first, second] };
                combos.push((*family, InstrumentKind::FutureCombo, product));
            }
        }
    }
    combos
}

/// Straddles and spreads of options with the same expiry, the middle of the ladders first.
fn option_combos(options: &[Draft], first_id: PlaceId) -> Vec<Draft> {
    let mut ids: HashMap<(&str, Rotation, Side, i32), PlaceId> = HashMap::new();
    for (at, (family, _, product)) in options.iter().enumerate() {
        if let Product::Option { rotation, side, rung, .. } = *product {
            ids.insert((family.name, rotation, side, rung), first_id + at);
        }
    }
    let mut combos = Vec::new();
    for (at, (family, _, product)) in options.iter().enumerate() {
        let Product::Option { rotation, side, rung, .. } = *product else { continue };
        let mut pair = |form, with: Option<&PlaceId>| {
            if let Some(&other) = with {
                combos.push((
                    *family,
                    InstrumentKind::OptionCombo,
                    Product::Combo { form, legs: [first_id + at, other] },
                ));
            }
        };
        let higher = ids.get(&(family.name, rotation, side, rung + 1));
        match side {
            Side::Put => pair(Form::PutSpread, higher),
            Side::Call => {
                pair(Form::Straddle, ids.get(&(family.name, rotation, Side::Put, rung)));
                pair(Form::CallSpread, higher);
            }
        }
    }
    combos
}

/// Zipf rates within each kind. Their total, including the legs of combos, is `rate`.
fn arrivals(key: Key, drafts: &[Draft], rate: f64) -> Vec<Arrivals> {
    let class = |(_, kind, product): &Draft| (*kind, *product == Product::Perpetual);
    let mut ranks: HashMap<(InstrumentKind, bool), u32> = HashMap::new();
    let mut weights = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let rank = ranks.entry(class(draft)).or_default();
        *rank += 1;
        weights.push(1.0 / f64::from(*rank));
    }
    let mut sums: HashMap<(InstrumentKind, bool), f64> = HashMap::new();
    for (draft, weight) in drafts.iter().zip(&weights) {
        *sums.entry(class(draft)).or_default() += weight;
    }
    for (draft, weight) in drafts.iter().zip(&mut weights) {
        let (kind, perpetual) = class(draft);
        let sum = sums.get(&class(draft)).copied().unwrap_or(1.0);
        *weight *= share(kind, perpetual) / sum;
    }
    let published = |(draft, weight): (&Draft, &f64)| if draft.1.is_combo() { 3.0 * weight } else { *weight };
    let total: f64 = drafts.iter().zip(&weights).map(published).sum();
    let arrivals = weights.iter().enumerate();
    arrivals
        .map(|(id, weight)| Arrivals::new(key.child(id as u64).child(ARRIVALS), rate * weight / total))
        .collect()
}

fn tapes(drafts: &[Draft], arrivals: &[Arrivals]) -> Vec<TradeTape> {
    let own = |(stream, arrivals): (usize, &Arrivals)| {
        vec![TapeSource { stream, leg: 0, arrivals: arrivals.clone() }]
    };
    let mut sources: Vec<Vec<TapeSource>> = arrivals.iter().enumerate().map(own).collect();
    for ((stream, (_, _, product)), arrivals) in drafts.iter().enumerate().zip(arrivals) {
        let Product::Combo { legs, .. } = product else { continue };
        for (leg, number) in legs.iter().zip(1..) {
            if let Some(sources) = sources.get_mut(*leg) {
                sources.push(TapeSource { stream, leg: number, arrivals: arrivals.clone() });
            }
        }
    }
    sources.into_iter().map(TradeTape::new).collect()
}
