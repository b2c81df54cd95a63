//! Takes every trade that Deribit publishes into `deribit.trades`, each once and in order.
//!
//! | room | what is in it |
//! |---|---|
//! | [`config`], [`start_from`] | the service's configuration |
//! | [`deribit`] | the exchange's protocol: messages, the conversation, the websocket session, history |
//! | [`sequence`], [`scan`] | every trade once and in order, whatever arrives; reading history |
//! | [`ingest`] | from what the exchange says to what is published |
//! | [`publish`] | transactions, and learning what earlier ones held |
//! | [`app`] | how these are put together, and run |

pub mod app;
pub mod clock;
pub mod config;
pub mod deribit;
pub mod ingest;
pub mod metrics;
pub mod partitioner;
pub mod publish;
pub mod scan;
pub mod sequence;
pub mod start_from;

pub use app::App;
pub use config::Config;
