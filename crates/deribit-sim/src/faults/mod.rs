//! What goes wrong on purpose: a plan of faults as data, and the decisions that follow from it.
//!
//! Nothing here does anything: time and occasions come in, and out comes what is to happen. Sessions, server and history obey. With
//! the same plan and the same occasions the same things happen. What the market holds never changes but for
//! [`FaultKind::Hole`], so what there was can always be asked.
//!
//! | module | what is in it |
//! |---|---|
//! | here | kinds of faults, and where they strike |
//! | `plan` | the file |
//! | `decide` | when a fault strikes |
//! | `spoil` | what becomes of a notification's text |

mod decide;
mod plan;
mod spoil;

use std::fmt;

use serde::Deserialize;

pub(crate) use decide::{Blow, Faults};
pub use plan::Plan;
pub(crate) use spoil::spoil;

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// A notification is not sent.
    Drop,
    /// Some of a notification's trades are missing.
    Thin,
    /// A notification is sent twice.
    Duplicate,
    /// A notification is sent after the one behind it.
    Reorder,
    /// A notification cannot be read: a trade of it, or all of it.
    Garbage,
    /// A notification is larger than any client reads.
    Oversize,
    /// Nothing is sent on the connection for a while, then everything.
    Stall,
    /// Nothing is sent or heard on the connection any more, and it stays open.
    HalfOpen,
    /// The connection is cut off, as a slow reader's is.
    Cut,
    /// A call is answered with 10028, and the session ends.
    RateLimit,
    /// An answer of history has the first half of its trades only, and says that there are more.
    Truncate,
    /// History lacks the newest trades: it is behind the stream by the fault's length.
    Lag,
    /// New connections are refused.
    Refuse,
    /// Connections stay, but no trades are sent, calls are answered with 11051, and new connections are refused.
    Maintenance,
    /// The exchange has no trade of that number, in the stream as in history.
    Hole,
}

/// When something can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// A notification with so many trades is about to be sent.
    Notification(u64),
    /// A call is about to be answered.
    Call,
    /// A call about history is about to be answered.
    History,
    /// Somebody connects.
    Connection,
}

impl FaultKind {
    /// All of them.
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

    /// As it is written in the plan.
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

    /// Whether it can strike there.
    fn strikes_at(self, occasion: Occasion) -> bool {
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
            // Of the market itself, by each trade's number.
            Self::Hole => false,
        }
    }

    /// Whether it is the exchange that suffers it, and not one notification, call or connection: then it lasts for all.
    const fn is_the_exchanges(self) -> bool {
        matches!(self, Self::Refuse | Self::Maintenance)
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
