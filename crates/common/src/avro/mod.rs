//! The Avro contract: schemas, the codec in Confluent's wire format, the registry.

pub mod codec;
pub mod fast_decode;
pub mod registry;
pub mod schema;
pub mod trade_encoder;

pub use apache_avro::Schema;
