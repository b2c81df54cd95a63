//! The exchange's JSON-RPC protocol, without I/O.
//!
//! | module | purpose |
//! |---|---|
//! | `message` | parses requests, writes replies and notifications |
//! | `error` | error codes |
//! | `params` | parameters, parsed as leniently as the exchange does |
//! | `channel` | channel names |
//! | `answer` | results that depend on market, time and parameters only |

mod answer;
mod channel;
mod error;
mod message;
mod params;

pub(crate) use answer::{HistoryFault, QueryContext, answer, is_history};
pub(crate) use channel::{Channel, Interval};
pub(crate) use error::ProtocolError;
pub(crate) use message::{RequestId, RpcRequest, heartbeat, maintenance, notification};
pub(crate) use params::RequestParams;
