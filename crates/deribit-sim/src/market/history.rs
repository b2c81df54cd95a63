//! Trades of a query: by time, by sequence, over many instruments, in pages.

use std::collections::{BTreeMap, BinaryHeap};
use std::ops::{Range, RangeInclusive};

use super::Market;
use super::family::{Currency, InstrumentKind};
use super::listing::Listing;
use super::time::MarketTime;
use super::trade::MarketTrade;
use super::universe::{Place, PlaceId};

/// Selects instruments by currency and kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Filter {
    /// The currency that passes; `None` for any.
    pub currency: Option<Currency>,
    /// The kinds that pass.
    pub kinds: InstrumentKinds,
}

/// A selection of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum InstrumentKinds {
    /// Any kind of instrument.
    #[default]
    Any,
    /// Both kinds of combos.
    Combos,
    /// One kind of instrument.
    One(InstrumentKind),
}

impl Filter {
    /// Whether instruments of that currency and kind pass.
    #[must_use]
    pub fn passes(self, currency: Currency, kind: InstrumentKind) -> bool {
        let kind_passes = match self.kinds {
            InstrumentKinds::Any => true,
            InstrumentKinds::Combos => kind.is_combo(),
            InstrumentKinds::One(one) => one == kind,
        };
        kind_passes && self.currency.is_none_or(|wanted| wanted == currency)
    }
}

/// The end of a span that trades are taken from, and their number, at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// The oldest trades, oldest first.
    First(usize),
    /// The newest trades, newest first.
    Last(usize),
}

impl Take {
    fn count(self) -> usize {
        match self {
            Self::First(count) | Self::Last(count) => count,
        }
    }
}

/// A page of trades.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryPage {
    /// The trades in the order of [`Take`].
    pub trades: Vec<MarketTrade>,
    /// Whether the span has more trades.
    pub has_more: bool,
}

impl Market {
    /// All trades with a timestamp in the half-open span, in order of time. Holds all of them in memory.
    #[must_use]
    pub fn trades(&self, span: Range<MarketTime>) -> Vec<MarketTrade> {
        let mut trades = Vec::new();
        for (id, place) in self.places.iter().enumerate() {
            self.make(id, ranks(place, &span), &mut trades);
        }
        sort(&mut trades);
        trades
    }

    /// Number of trades of the instrument before that time; also the `trade_seq` of the last of them.
    #[must_use]
    pub fn sequence_before(&self, listing: &Listing, time: MarketTime) -> u64 {
        let Some(place) = self.places.get(listing.place) else { return 0 };
        let time = time.clamp(listing.life.from, listing.life.until);
        place.tape.before(time.since_genesis()) - place.tape.before(listing.life.from.since_genesis())
    }

    /// The trades of one instrument with those sequence numbers, before `now`.
    #[must_use]
    pub fn sequence(
        &self,
        listing: &Listing,
        numbers: RangeInclusive<u64>,
        now: MarketTime,
    ) -> Vec<MarketTrade> {
        let mut trades = Vec::new();
        let Some(place) = self.places.get(listing.place) else { return trades };
        let base = place.tape.before(listing.life.from.since_genesis());
        let last = self.sequence_before(listing, now).min(*numbers.end());
        let first = (*numbers.start()).max(1);
        if first <= last {
            self.make(listing.place, base + first - 1..base + last, &mut trades);
        }
        trades
    }

    /// Trades from one end of the half-open span that pass the filter.
    #[must_use]
    pub fn page(&self, filter: Filter, span: Range<MarketTime>, take: Take) -> HistoryPage {
        let wanted = self
            .places
            .iter()
            .enumerate()
            .filter(|(_, place)| filter.passes(place.family.currency, place.kind));
        let remaining = wanted.map(|(id, place)| (id, ranks(place, &span)));
        let (chosen, mut has_more) = self.choose(remaining, take);
        let mut trades = Vec::new();
        for (id, ranks) in chosen {
            self.make(id, ranks, &mut trades);
        }
        sort(&mut trades);
        if matches!(take, Take::Last(_)) {
            trades.reverse();
        }
        has_more |= trades.len() > take.count();
        trades.truncate(take.count());
        HistoryPage { trades, has_more }
    }

    /// Takes whole milliseconds from one end of the places' merged ranks until there are enough trades. Returns the ranks taken from each
    /// place, and whether any were left.
    fn choose(
        &self,
        remaining: impl Iterator<Item = (PlaceId, Range<u64>)>,
        take: Take,
    ) -> (BTreeMap<PlaceId, Range<u64>>, bool) {
        let mut heads: BinaryHeap<Head> =
            remaining.filter_map(|(id, ranks)| Head::of(self, id, ranks, take)).collect();
        let mut chosen: BTreeMap<PlaceId, Range<u64>> = BTreeMap::new();
        let (mut taken, mut distance) = (0, None);
        while let Some(head) = heads.pop() {
            if taken >= take.count() as u64 && distance != Some(head.distance) {
                return (chosen, true);
            }
            distance = Some(head.distance);
            taken += head.ranks.end - head.ranks.start;
            let all = chosen.entry(head.id).or_insert_with(|| head.ranks.clone());
            *all = all.start.min(head.ranks.start)..all.end.max(head.ranks.end);
            heads.extend(Head::of(self, head.id, head.rest, take));
        }
        (chosen, false)
    }
}

/// The ranks of a place in the next millisecond to take, and its other ranks.
#[derive(Debug)]
struct Head {
    /// Order of the millisecond: the smallest is taken first.
    distance: u64,
    id: PlaceId,
    ranks: Range<u64>,
    rest: Range<u64>,
}

impl Head {
    /// `None` if there are no ranks.
    fn of(market: &Market, id: PlaceId, Range { start, end }: Range<u64>, take: Take) -> Option<Self> {
        let tape = &market.places.get(id).filter(|_| start < end)?.tape;
        Some(match take {
            Take::First(_) => {
                let leaf = tape.leaf(start);
                let cut = leaf.end().min(end);
                Self { distance: leaf.time, id, ranks: start..cut, rest: cut..end }
            }
            Take::Last(_) => {
                let leaf = tape.leaf(end - 1);
                let cut = leaf.first.max(start);
                Self { distance: u64::MAX - leaf.time, id, ranks: cut..end, rest: start..cut }
            }
        })
    }
}

/// Reversed: the greatest element of the heap is taken next.
impl Ord for Head {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.distance, other.id).cmp(&(self.distance, self.id))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}

fn ranks(place: &Place, span: &Range<MarketTime>) -> Range<u64> {
    let from = place.tape.before(span.start.since_genesis());
    from..place.tape.before(span.end.since_genesis()).max(from)
}

/// Sorts by time, then by currency, because trade ids are unique within a currency only.
pub(super) fn sort(trades: &mut [MarketTrade]) {
    trades.sort_unstable_by_key(|trade| (trade.timestamp, trade.currency as u8, trade.trade_id.number));
}
