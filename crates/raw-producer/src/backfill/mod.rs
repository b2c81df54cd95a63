//! Reading the exchange's history.

pub(crate) mod by_instrument;
pub(crate) mod by_time;
