//! Values in Confluent's wire format: a zero byte, the schema id (4 bytes, big-endian), the Avro datum.

use std::collections::HashMap;
use std::marker::PhantomData;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::schema::Contract;
use super::trade_decoder;
use crate::model::Trade;

/// The id of a schema in the registry.
pub type SchemaId = u32;

pub(super) const MAGIC: u8 = 0;

/// Encodes records of one type with one schema id.
pub struct Encoder {
    id: SchemaId,
    writer: GenericDatumWriter<'static>,
}

impl Encoder {
    /// An encoder for `contract`; `id` is its schema id.
    #[must_use]
    pub fn new(contract: &'static Contract, id: SchemaId) -> Self {
        let writer = GenericDatumWriter::builder(&contract.schema).human_readable(false).build();
        Self { id, writer: writer.expect("a schema of the contract refers to nothing outside itself") }
    }

    /// Replaces the content of `into` by the encoded record.
    ///
    /// # Errors
    /// If the record does not match the contract.
    pub fn encode(&self, record: &impl Serialize, into: &mut Vec<u8>) -> Result<(), EncodeError> {
        into.clear();
        into.push(MAGIC);
        into.extend_from_slice(&self.id.to_be_bytes());
        self.writer.write_ser(into, record).map_err(|error| EncodeError(error.to_string()))?;
        Ok(())
    }
}

/// A record that does not match the contract.
#[derive(Debug, thiserror::Error)]
#[error("cannot be encoded: {0}")]
pub struct EncodeError(String);

/// Why bytes could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not in Confluent's wire format.
    #[error("not in the wire format: {0}")]
    NotWireFormat(String),
    /// The schema id is unknown: look it up, call [`Decoder::learn`], and decode again.
    #[error("schema id {0} is not known")]
    UnknownSchema(SchemaId),
    /// The registry has no Avro schema of that id; the text is the registry's answer.
    #[error("{0}")]
    NoSchema(String),
    /// The datum does not match its schema, or its schema does not match the contract.
    #[error("does not decode: {0}")]
    Malformed(String),
}

/// Decodes records of one type that were written with any compatible schema.
pub struct Decoder<T> {
    contract: &'static Contract,
    /// Decodes values that were written with the contract's own schema.
    own: GenericDatumReader<'static>,
    known: HashMap<SchemaId, WriterSchema>,
    /// An id that is [`WriterSchema::Own`]; there is hardly ever a second one.
    own_id: Option<SchemaId>,
    record: PhantomData<fn() -> T>,
}

enum WriterSchema {
    /// The contract's own schema: no resolution is needed.
    Own,
    Foreign(Box<Schema>),
}

impl<T: DeserializeOwned> Decoder<T> {
    /// A decoder that knows no schema id yet.
    #[must_use]
    pub fn new(contract: &'static Contract) -> Self {
        let own = GenericDatumReader::builder(&contract.schema).human_readable(false).build();
        let own = own.expect("a schema of the contract refers to nothing outside itself");
        Self { contract, own, known: HashMap::new(), own_id: None, record: PhantomData }
    }

    /// Stores the schema of `id`.
    pub fn learn(&mut self, id: SchemaId, writer: Schema) {
        let same = writer.canonical_form() == self.contract.schema.canonical_form();
        self.own_id = if same { Some(id) } else { self.own_id.filter(|own| *own != id) };
        self.known.insert(id, if same { WriterSchema::Own } else { WriterSchema::Foreign(Box::new(writer)) });
    }

    /// The record in `bytes`.
    ///
    /// # Errors
    /// [`DecodeError::UnknownSchema`] before [`Self::learn`]; the other errors are final.
    pub fn decode(&self, bytes: &[u8]) -> Result<T, DecodeError> {
        let (id, mut datum) = split(bytes)?;
        let record = match self.known.get(&id).ok_or(DecodeError::UnknownSchema(id))? {
            WriterSchema::Own => self.own.read_deser(&mut datum).map_err(malformed)?,
            WriterSchema::Foreign(writer) => self.resolve(writer, &mut datum)?,
        };
        if datum.is_empty() {
            Ok(record)
        } else {
            Err(DecodeError::Malformed(format!("{} bytes are left over", datum.len())))
        }
    }

    /// Decodes by Avro's resolution rules: unknown fields are skipped, missing ones take their defaults.
    fn resolve(&self, writer: &Schema, datum: &mut &[u8]) -> Result<T, DecodeError> {
        let reader = GenericDatumReader::builder(writer)
            .reader_schema(&self.contract.schema)
            .build()
            .map_err(malformed)?;
        let value = reader.read_value(datum).map_err(malformed)?;
        apache_avro::from_value(&value).map_err(malformed)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn malformed(error: apache_avro::Error) -> DecodeError {
    DecodeError::Malformed(error.to_string())
}

impl Decoder<Trade<'static>> {
    /// As [`Self::decode`], but faster and borrowing from `bytes` if the trade was written with the contract's own schema. It checks the whole
    /// trade and builds only `part` of it.
    ///
    /// # Errors
    /// As [`Self::decode`].
    #[inline]
    pub fn decode_part<'b, P>(
        &self,
        bytes: &'b [u8],
        part: impl FnOnce(Trade<'b>) -> P,
    ) -> Result<P, DecodeError> {
        let (id, datum) = split(bytes)?;
        if self.own_id == Some(id)
            && let Some(trade) = trade_decoder::decode(datum)
        {
            return Ok(part(trade));
        }
        self.decode(bytes).map(part)
    }
}

/// Splits a value in the wire format into schema id and datum.
///
/// # Errors
/// [`DecodeError::NotWireFormat`] for any other bytes.
#[inline]
pub fn split(bytes: &[u8]) -> Result<(SchemaId, &[u8]), DecodeError> {
    match bytes {
        [MAGIC, a, b, c, d, datum @ ..] => Ok((SchemaId::from_be_bytes([*a, *b, *c, *d]), datum)),
        [MAGIC, ..] | [] => Err(DecodeError::NotWireFormat(format!("only {} bytes", bytes.len()))),
        [first, ..] => Err(DecodeError::NotWireFormat(format!("begins with {first:#04x} instead of 0x00"))),
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
