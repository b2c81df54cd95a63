//! Kafka Connect: its REST API, and what we want there.

pub mod answers;
pub mod api;
pub mod apply;
pub mod connector;
pub mod surroundings;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
