//! Kafka Connect: its REST API, and the connectors that this service keeps there.

pub mod api;
pub mod apply;
pub mod responses;
pub mod settings;
pub mod template;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
