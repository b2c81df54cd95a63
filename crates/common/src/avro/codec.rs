//! Values in Confluent's wire format: a zero byte, the schema's id (4 bytes, big-endian), the Avro datum.

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

/// A schema's number in the registry.
pub type SchemaId = u32;

pub(super) const MAGIC: u8 = 0;

/// Writes records of one type under one schema id.
pub struct Encoder {
    id: SchemaId,
    writer: GenericDatumWriter<'static>,
}

impl Encoder {
    /// An encoder for `contract`, which the registry knows as `id`.
    #[must_use]
    pub fn new(contract: &'static Contract, id: SchemaId) -> Self {
        let writer = GenericDatumWriter::builder(&contract.schema).human_readable(false).build();
        Self { id, writer: writer.expect("a schema of the contract refers to nothing outside itself") }
    }

    /// Replaces the content of `into` by the record's wire form.
    ///
    /// # Errors
    /// If the value does not have the contract's shape.
    pub fn encode(&self, record: &impl Serialize, into: &mut Vec<u8>) -> Result<(), EncodeError> {
        into.clear();
        into.push(MAGIC);
        into.extend_from_slice(&self.id.to_be_bytes());
        self.writer.write_ser(into, record).map_err(|error| EncodeError(error.to_string()))?;
        Ok(())
    }
}

/// A value that does not have the contract's shape.
#[derive(Debug, thiserror::Error)]
#[error("cannot be encoded: {0}")]
pub struct EncodeError(String);

/// Why bytes could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not Confluent's wire format.
    #[error("not in the wire format: {0}")]
    NotWireFormat(String),
    /// Ask the registry, [`Decoder::learn`] its answer, and decode again.
    #[error("schema id {0} is not known")]
    UnknownSchema(SchemaId),
    /// The registry has no Avro schema of the value's id: what the registry said.
    #[error("{0}")]
    NoSchema(String),
    /// The datum does not fit its schema, or its schema not the contract.
    #[error("does not decode: {0}")]
    Malformed(String),
}

/// Reads records of one type, by whatever schemas they were written.
pub struct Decoder<T> {
    contract: &'static Contract,
    /// Reads what was written by the contract's own schema.
    own: GenericDatumReader<'static>,
    known: HashMap<SchemaId, Writer>,
    /// One that is [`Writer::Own`]: hardly ever is there another.
    own_id: Option<SchemaId>,
    record: PhantomData<fn() -> T>,
}

enum Writer {
    /// Same layout as the contract's: no resolution needed.
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

    /// Remembers what the registry says of `id`.
    pub fn learn(&mut self, id: SchemaId, writer: Schema) {
        let same = writer.canonical_form() == self.contract.schema.canonical_form();
        self.own_id = if same { Some(id) } else { self.own_id.filter(|own| *own != id) };
        self.known.insert(id, if same { Writer::Own } else { Writer::Foreign(Box::new(writer)) });
    }

    /// The record in `bytes`.
    ///
    /// # Errors
    /// [`DecodeError::UnknownSchema`] is a question, the others are verdicts.
    pub fn decode(&self, bytes: &[u8]) -> Result<T, DecodeError> {
        let (id, mut datum) = split(bytes)?;
        let record = match self.known.get(&id).ok_or(DecodeError::UnknownSchema(id))? {
            Writer::Own => self.own.read_deser(&mut datum).map_err(malformed)?,
            Writer::Foreign(writer) => self.resolve(writer, &mut datum)?,
        };
        if datum.is_empty() {
            Ok(record)
        } else {
            Err(DecodeError::Malformed(format!("{} bytes are left over", datum.len())))
        }
    }

    /// By Avro's resolution rules: fields the contract lacks are passed over, those it adds take their defaults.
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
    /// As [`Self::decode`], borrowing from `bytes` and faster, if the trade was written by the contract's own schema. All of it is
    /// checked; what `part` leaves out is not put together.
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

/// Schema id and datum of a value in the wire format.
///
/// # Errors
/// [`DecodeError::NotWireFormat`].
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
