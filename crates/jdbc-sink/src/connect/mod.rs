//! Kafka Connect: its REST API, and the connectors that this service keeps there.

pub(crate) mod api;
pub(crate) mod apply;
pub(crate) mod metrics;
pub(crate) mod responses;
pub(crate) mod settings;
pub(crate) mod template;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
