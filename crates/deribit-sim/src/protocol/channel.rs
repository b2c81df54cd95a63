//! Channel names.

use crate::market::{Currency, Filter, InstrumentKind, InstrumentKinds};

/// How trades are batched before they are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Interval {
    /// `raw`: at once, for authenticated connections.
    Raw,
    /// `100ms`: the trades of 100 ms together.
    Bundle,
    /// `agg2`: the trades of one second together.
    Second,
}

/// A channel that clients can subscribe to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Channel {
    /// Trades of one instrument.
    Instrument(String, Interval),
    /// Trades of all instruments that pass the filter.
    Group(Filter, Interval),
    /// Notifications that maintenance begins or ends.
    PlatformState,
}

impl Channel {
    /// Parses a channel name. The instrument may not exist.
    pub(crate) fn of(name: &str) -> Option<Self> {
        if matches!(name, "platform_state" | "platform_state.public_methods_state") {
            return Some(Self::PlatformState);
        }
        let parts: Vec<_> = name.strip_prefix("trades.")?.split('.').collect();
        match parts[..] {
            [instrument, interval] => Some(Self::Instrument(instrument.to_owned(), Interval::of(interval)?)),
            [kind, currency, interval] => {
                let filter = Filter { currency: currency_of(currency)?, kinds: kinds_of(kind)? };
                Some(Self::Group(filter, Interval::of(interval)?))
            }
            _ => None,
        }
    }

    /// The interval of its trades; `None` if it carries no trades.
    pub(crate) fn interval(&self) -> Option<Interval> {
        match self {
            Self::Instrument(_, interval) | Self::Group(_, interval) => Some(*interval),
            Self::PlatformState => None,
        }
    }
}

impl Interval {
    fn of(name: &str) -> Option<Self> {
        match name {
            "raw" => Some(Self::Raw),
            "100ms" => Some(Self::Bundle),
            "agg2" => Some(Self::Second),
            _ => None,
        }
    }
}

/// `None`: no such currency; `Some(None)`: any.
pub(super) fn currency_of(name: &str) -> Option<Option<Currency>> {
    if name == "any" { Some(None) } else { Currency::of(name).map(Some) }
}

pub(super) fn kinds_of(name: &str) -> Option<InstrumentKinds> {
    match name {
        "any" => Some(InstrumentKinds::Any),
        "combo" => Some(InstrumentKinds::Combos),
        _ => InstrumentKind::of(name).map(InstrumentKinds::One),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_told_by_their_names() {
        let instrument = |name: &str, interval| Some(Channel::Instrument(name.into(), interval));
        assert_eq!(Channel::of("trades.BTC-PERPETUAL.100ms"), instrument("BTC-PERPETUAL", Interval::Bundle));
        assert_eq!(Channel::of("trades.BTC-PERPETUAL.raw"), instrument("BTC-PERPETUAL", Interval::Raw));
        let filter = Filter { currency: None, kinds: InstrumentKinds::One(InstrumentKind::FutureCombo) };
        assert_eq!(
            Channel::of("trades.future_combo.any.agg2"),
            Some(Channel::Group(filter, Interval::Second))
        );
        let all = Filter { currency: None, kinds: InstrumentKinds::Any };
        assert_eq!(Channel::of("trades.any.any.100ms"), Some(Channel::Group(all, Interval::Bundle)));
        for wrong in [
            "",
            "trades",
            "trades.",
            "trades.BTC-PERPETUAL",
            "trades.x.BTC.100ms",
            "trades.future.LTC.100ms",
            "trades.future.BTC.1s",
            "ticker.BTC-PERPETUAL.100ms",
        ] {
            assert_eq!(Channel::of(wrong), None, "{wrong}");
        }
    }
}
