//! Exchange time.

use serde::{Deserialize, Serialize};

pub(crate) const MILLIS_PER_DAY: u64 = 86_400_000;

/// An instant of exchange time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MarketTime(pub u64);

impl MarketTime {
    /// When the market opened: 2024-01-01T00:00:00Z. No instrument is older, and nothing was traded before.
    pub const GENESIS: Self = Self(1_704_067_200_000);

    /// The expiry of what never expires, as the exchange writes it.
    pub const NEVER: Self = Self(32_503_708_800_000);

    /// Milliseconds since the market opened, the time that the arrival process runs on; 0 before.
    pub(crate) fn since_genesis(self) -> u64 {
        self.0.saturating_sub(Self::GENESIS.0)
    }

    pub(crate) fn from_genesis(offset: u64) -> Self {
        Self(Self::GENESIS.0 + offset)
    }

    /// Later by that many milliseconds.
    #[must_use]
    pub const fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Earlier by that many milliseconds.
    #[must_use]
    pub const fn minus(self, millis: u64) -> Self {
        Self(self.0.saturating_sub(millis))
    }
}
