//! Publishes every Deribit trade to `deribit.trades`, exactly once and in order.
//!
//! | module | contents |
//! |---|---|
//! | `app`, `config` | how the service is built from its configuration |
//! | `supervisor` | runs the service and restarts it from the last committed transaction |
//! | [`deribit`] | the exchange's protocol: connections, handshake, messages, requests |
//! | `feed` | from received frames to records to publish |
//! | `sequencer` | puts the trades of each instrument in order and finds gaps; no I/O, no clock |
//! | `backfill` | reads the exchange's history |
//! | `publish` | transactions, snapshots, and recovery from what earlier transactions committed |

#[cfg(feature = "failpoints")]
mod ablation;
mod app;
mod backfill;
mod clock;
mod config;
pub mod deribit;
mod feed;
mod metrics;
mod publish;
mod sequencer;
mod supervisor;

pub use app::App;
pub use config::Config;
pub use deribit::events::FRAME_QUEUE_BYTES;
pub use publish::BATCH_MAX;
pub use supervisor::PUBLISH_QUEUE_CAPACITY;
