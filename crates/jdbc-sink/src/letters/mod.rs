//! Dead letters, decided: a record that our own codec decodes was refused for a passing reason and gets its row, any other stays where
//! it is, counted by reason.

mod decision;
mod desk;
mod pass_over;
mod store;

pub use decision::{BROUGHT_BACK, Decision};
pub use desk::Desk;
pub use pass_over::pass_over;
