//! Kinds, currencies and families of instruments.

use serde::{Deserialize, Serialize};

use super::tick::TickGrid;

/// The exchange's kinds of instruments. Perpetuals are futures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstrumentKind {
    /// Perpetuals and dated futures.
    Future,
    /// Options: calls and puts.
    Option,
    /// Currency pairs with immediate delivery.
    Spot,
    /// Two futures traded as one.
    FutureCombo,
    /// Two options traded as one.
    OptionCombo,
}

impl InstrumentKind {
    /// All kinds, in the order of the enum.
    pub const ALL: [Self; 5] = [Self::Future, Self::Option, Self::Spot, Self::FutureCombo, Self::OptionCombo];

    /// The name in channels and parameters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Future => "future",
            Self::Option => "option",
            Self::Spot => "spot",
            Self::FutureCombo => "future_combo",
            Self::OptionCombo => "option_combo",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it is two instruments traded as one.
    #[must_use]
    pub const fn is_combo(self) -> bool {
        matches!(self, Self::FutureCombo | Self::OptionCombo)
    }
}

/// The currencies by which channels and history select instruments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Currency {
    /// Inverse contracts on bitcoin.
    Btc,
    /// Inverse contracts on ether.
    Eth,
    /// Linear contracts and spot against USDC.
    Usdc,
    /// Spot pairs against USDT.
    Usdt,
    /// Spot pairs against EURR.
    Eurr,
}

impl Currency {
    /// All currencies, in the order of the enum.
    pub const ALL: [Self; 5] = [Self::Btc, Self::Eth, Self::Usdc, Self::Usdt, Self::Eurr];

    /// The name in channels and parameters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Btc => "BTC",
            Self::Eth => "ETH",
            Self::Usdc => "USDC",
            Self::Usdt => "USDT",
            Self::Eurr => "EURR",
        }
    }

    /// The currency of that name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|currency| currency.name() == name)
    }
}

/// An underlying coin; each has its own random price path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Coin {
    Btc,
    Eth,
    Sol,
    Xrp,
    Doge,
    Ada,
}

impl Coin {
    /// Coordinate of its path, and the price in dollars around which it moves.
    pub(crate) const fn path(self) -> (u64, f64) {
        match self {
            Self::Btc => (1, 63_000.0),
            Self::Eth => (2, 2_500.0),
            Self::Sol => (3, 150.0),
            Self::Xrp => (4, 0.62),
            Self::Doge => (5, 0.12),
            Self::Ada => (6, 0.41),
        }
    }

    /// Volatility relative to bitcoin.
    pub(crate) const fn restlessness(self) -> f64 {
        match self {
            Self::Btc => 1.0,
            Self::Eth => 1.5,
            Self::Sol | Self::Xrp | Self::Doge | Self::Ada => 2.0,
        }
    }
}

/// Instruments that share underlying, currency and contract terms. Its name is the first part of theirs.
#[derive(Debug, PartialEq)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) base: &'static str,
    pub(crate) quote: &'static str,
    pub(crate) currency: Currency,
    pub(crate) coin: Coin,
    /// Inverse contracts are margined in the coin, and their futures are counted in dollars. Linear ones are margined in the quote currency and
    /// counted in coins.
    pub(crate) inverse: bool,
    /// Dollars for one unit of the quote currency.
    pub(crate) quote_in_dollars: f64,
    /// Price grid of all instruments except options.
    pub(crate) tick: TickGrid,
    /// Amount grid of all instruments except options.
    pub(crate) lot: TickGrid,
    pub(crate) contract_size: f64,
    pub(crate) option_tick: TickGrid,
    pub(crate) option_lot: TickGrid,
}

const LINEAR: Family = Family {
    name: "",
    base: "",
    quote: "USDC",
    currency: Currency::Usdc,
    coin: Coin::Btc,
    inverse: false,
    quote_in_dollars: 1.0,
    tick: TickGrid::new(5, 1),
    lot: TickGrid::new(1, 4),
    contract_size: 0.0001,
    option_tick: TickGrid::new(5, 0),
    option_lot: TickGrid::new(1, 2),
};

pub(crate) static BTC: Family = Family {
    name: "BTC",
    base: "BTC",
    quote: "USD",
    currency: Currency::Btc,
    inverse: true,
    lot: TickGrid::new(10, 0),
    contract_size: 10.0,
    option_tick: TickGrid::new(1, 4),
    option_lot: TickGrid::new(1, 1),
    ..LINEAR
};

pub(crate) static ETH: Family = Family {
    name: "ETH",
    base: "ETH",
    quote: "USD",
    currency: Currency::Eth,
    coin: Coin::Eth,
    inverse: true,
    tick: TickGrid::new(5, 2),
    lot: TickGrid::new(10, 0),
    contract_size: 1.0,
    option_tick: TickGrid::new(1, 4),
    option_lot: TickGrid::new(1, 0),
    ..LINEAR
};

pub(crate) static BTC_USDC: Family = Family { name: "BTC_USDC", base: "BTC", ..LINEAR };

pub(crate) static ETH_USDC: Family = Family {
    name: "ETH_USDC",
    base: "ETH",
    coin: Coin::Eth,
    tick: TickGrid::new(5, 2),
    lot: TickGrid::new(1, 3),
    contract_size: 0.001,
    ..LINEAR
};

pub(crate) static SOL_USDC: Family = Family {
    name: "SOL_USDC",
    base: "SOL",
    coin: Coin::Sol,
    tick: TickGrid::new(1, 2),
    lot: TickGrid::new(1, 1),
    contract_size: 0.1,
    ..LINEAR
};

pub(crate) static XRP_USDC: Family = Family {
    name: "XRP_USDC",
    base: "XRP",
    coin: Coin::Xrp,
    tick: TickGrid::new(1, 4),
    lot: TickGrid::new(1, 0),
    contract_size: 1.0,
    option_tick: TickGrid::new(1, 4),
    option_lot: TickGrid::new(1000, 0),
    ..LINEAR
};

pub(crate) static DOGE_USDC: Family = Family {
    name: "DOGE_USDC",
    base: "DOGE",
    coin: Coin::Doge,
    tick: TickGrid::new(1, 5),
    lot: TickGrid::new(1, 0),
    contract_size: 1.0,
    ..LINEAR
};

pub(crate) static ADA_USDC: Family = Family {
    name: "ADA_USDC",
    base: "ADA",
    coin: Coin::Ada,
    tick: TickGrid::new(1, 5),
    lot: TickGrid::new(1, 0),
    contract_size: 1.0,
    ..LINEAR
};

pub(crate) static BTC_USDT: Family = Family {
    name: "BTC_USDT",
    base: "BTC",
    quote: "USDT",
    currency: Currency::Usdt,
    quote_in_dollars: 0.9996,
    ..LINEAR
};

pub(crate) static ETH_USDT: Family = Family {
    name: "ETH_USDT",
    base: "ETH",
    quote: "USDT",
    currency: Currency::Usdt,
    coin: Coin::Eth,
    quote_in_dollars: 0.9996,
    tick: TickGrid::new(5, 2),
    lot: TickGrid::new(1, 3),
    ..LINEAR
};

pub(crate) static BTC_EURR: Family = Family {
    name: "BTC_EURR",
    base: "BTC",
    quote: "EURR",
    currency: Currency::Eurr,
    quote_in_dollars: 1.09,
    ..LINEAR
};

pub(crate) static ETH_EURR: Family = Family {
    name: "ETH_EURR",
    base: "ETH",
    quote: "EURR",
    currency: Currency::Eurr,
    coin: Coin::Eth,
    quote_in_dollars: 1.09,
    tick: TickGrid::new(5, 2),
    lot: TickGrid::new(1, 3),
    ..LINEAR
};
