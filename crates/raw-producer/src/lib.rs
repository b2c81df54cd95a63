//! Takes every trade that Deribit publishes into `deribit.trades`.
//!
//! | room | what is in it |
//! |---|---|
//! | [`config`] | the service's configuration |
//! | [`deribit`] | the exchange's protocol: messages, the conversation, the websocket session |
//! | [`feed`] | what becomes of a trade between socket and Kafka |
//! | [`publish`] | records in flight to Kafka |
//! | [`app`] | how these are put together, and run |

pub mod app;
pub mod config;
pub mod deribit;
pub mod feed;
pub mod metrics;
pub mod partitioner;
pub mod publish;
pub mod sequence;

pub use app::App;
pub use config::Config;
