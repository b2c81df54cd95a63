//! Deribit's websocket API, as far as trades need it.

pub mod conversation;
pub mod message;
pub mod session;
