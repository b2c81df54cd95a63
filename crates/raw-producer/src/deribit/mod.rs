//! Deribit's websocket API, as far as trades need it.

pub mod conversation;
pub mod credits;
pub mod events;
pub mod history;
pub mod message;
pub mod scope;
pub mod session;
