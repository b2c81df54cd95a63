//! Injected faults: a plan as data, and a schedule that decides when each fault strikes.
//!
//! This module does no I/O. Time and occasions come in, and injected faults come out; sessions, server and history carry them out. The
//! same plan and the same occasions give the same faults. Only [`FaultKind::Hole`] changes the market itself.
//!
//! | module | purpose |
//! |---|---|
//! | here | kinds of faults, and the occasions they apply to |
//! | `plan` | the TOML file |
//! | `schedule` | when a fault strikes |
//! | `corrupt` | changes to the text of a notification |

mod corrupt;
mod plan;
mod schedule;

use std::fmt;

use serde::Deserialize;

pub(crate) use corrupt::corrupt;
pub use plan::Plan;
pub(crate) use schedule::{FaultSchedule, InjectedFault};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// A notification is not sent.
    Drop,
    /// Some of a notification's trades are missing.
    Thin,
    /// A notification is sent twice.
    Duplicate,
    /// A notification is sent after its successor.
    Reorder,
    /// A notification cannot be parsed: one of its trades, or all of it.
    Garbage,
    /// A notification is larger than any client accepts.
    Oversize,
    /// The connection sends nothing for a while, then everything at once.
    Stall,
    /// The connection stays open, but sends and reads nothing.
    HalfOpen,
    /// The connection is closed, as for a slow consumer.
    Cut,
    /// A request is answered with error 10028, and the session ends.
    RateLimit,
    /// A history response has only the first half of its trades, and `has_more`.
    Truncate,
    /// History lacks the newest trades: it lags behind the stream by `lasts`.
    Lag,
    /// New connections are refused.
    Refuse,
    /// Connections stay open, no trades are sent, requests get error 11051, and new connections are refused.
    Maintenance,
    /// A sequence number has no trade, neither in the stream nor in history.
    Hole,
}

/// A moment at which a fault can strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// Before a notification is sent: the number of its trades.
    Notification(u64),
    /// Before a request is answered.
    Call,
    /// Before a history request is answered.
    History,
    /// Before a connection is accepted.
    Connection,
}

impl FaultKind {
    /// All kinds, in the order of the enum.
    pub const ALL: [Self; 15] = [
        Self::Drop,
        Self::Thin,
        Self::Duplicate,
        Self::Reorder,
        Self::Garbage,
        Self::Oversize,
        Self::Stall,
        Self::HalfOpen,
        Self::Cut,
        Self::RateLimit,
        Self::Truncate,
        Self::Lag,
        Self::Refuse,
        Self::Maintenance,
        Self::Hole,
    ];

    /// The name in the plan and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Thin => "thin",
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
            Self::Garbage => "garbage",
            Self::Oversize => "oversize",
            Self::Stall => "stall",
            Self::HalfOpen => "half-open",
            Self::Cut => "cut",
            Self::RateLimit => "rate-limit",
            Self::Truncate => "truncate",
            Self::Lag => "lag",
            Self::Refuse => "refuse",
            Self::Maintenance => "maintenance",
            Self::Hole => "hole",
        }
    }

    /// Whether the fault can strike at that occasion.
    fn applies_to(self, occasion: Occasion) -> bool {
        match self {
            Self::Drop
            | Self::Thin
            | Self::Duplicate
            | Self::Reorder
            | Self::Garbage
            | Self::Oversize
            | Self::Stall
            | Self::HalfOpen
            | Self::Cut => matches!(occasion, Occasion::Notification(_)),
            Self::RateLimit => matches!(occasion, Occasion::Call | Occasion::History),
            Self::Truncate | Self::Lag => occasion == Occasion::History,
            Self::Refuse => occasion == Occasion::Connection,
            Self::Maintenance => true,
            // The market itself decides it for each sequence number.
            Self::Hole => false,
        }
    }

    /// Whether the fault lasts for all connections, instead of one notification, request or connection.
    const fn affects_all_connections(self) -> bool {
        matches!(self, Self::Refuse | Self::Maintenance)
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
