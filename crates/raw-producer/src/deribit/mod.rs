//! Deribit's websocket API, as far as trades need it.

pub(crate) mod connection;
pub(crate) mod events;
pub(crate) mod handshake;
pub mod history;
pub(crate) mod history_scope;
pub mod message;
pub(crate) mod rate_limit;
pub(crate) mod requests;
pub(crate) mod rpc;
mod wire_trade;

/// The largest message that is accepted, in bytes. Bursts of hundreds of trades are far below.
pub(crate) const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
