//! A stand-in for the Deribit exchange.

pub mod market;
