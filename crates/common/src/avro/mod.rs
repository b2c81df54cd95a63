//! The Avro contract: schemas, codec in Confluent's wire format, schema registry.

pub mod codec;
pub mod registry;
pub mod registry_decoder;
pub mod schema;
pub mod trade_decoder;
pub mod trade_encoder;
pub mod window_encoder;

pub use apache_avro::Schema;
