//! The exchange's JSON-RPC: what is said, without saying it.
//!
//! | module | what is in it |
//! |---|---|
//! | `message` | requests read, replies and notifications written |
//! | `error` | the error codes |
//! | `params` | parameters, lenient as the exchange is |
//! | `channel` | names of channels |
//! | `answer` | calls that are functions of market, time and parameters |

mod answer;
mod channel;
mod error;
mod message;
mod params;

pub(crate) use answer::{Context, Recall, answer, is_history};
pub(crate) use channel::{Channel, Interval};
pub(crate) use error::RpcError;
pub(crate) use message::{Id, Request, heartbeat, maintenance, notification};
pub(crate) use params::Params;
