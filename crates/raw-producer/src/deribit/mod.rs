//! Deribit's websocket API, as far as trades need it.

pub(crate) mod connection;
pub(crate) mod events;
pub(crate) mod handshake;
pub mod history;
pub(crate) mod history_scope;
pub mod message;
pub(crate) mod rate_limit;
pub(crate) mod requests;
