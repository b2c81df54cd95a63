//! One value of a row, the same whether it comes from a record or from the database.

use std::borrow::Cow;
use std::error::Error;
use std::hash::{Hash, Hasher};

use bytes::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// Microseconds from 1970 to 2000, where PostgreSQL's times begin.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Two values are equal only if they are bit for bit the same: `0.0` and `-0.0` differ.
#[derive(Debug, Clone)]
pub(crate) enum SqlValue<'a> {
    Null,
    Text(Cow<'a, str>),
    /// `bigint` and `integer`.
    Integer(i64),
    /// `double precision`.
    Double(f64),
    /// `timestamptz`, in microseconds since 1970.
    Timestamp(i64),
}

impl<'a> SqlValue<'a> {
    pub(crate) fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    pub(crate) fn optional_text(text: Option<&'a str>) -> Self {
        text.map_or(Self::Null, Self::text)
    }

    pub(crate) fn optional_double(double: Option<f64>) -> Self {
        double.map_or(Self::Null, Self::Double)
    }

    pub(crate) fn optional_integer(integer: Option<impl Into<i64>>) -> Self {
        integer.map_or(Self::Null, |integer| Self::Integer(integer.into()))
    }

    /// A timestamp from milliseconds since 1970.
    pub(crate) fn millis(millis: i64) -> Self {
        Self::Timestamp(millis.saturating_mul(1000))
    }

    /// The number of an integer, the microseconds of a timestamp; `None` for everything else.
    pub(crate) fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Integer(number) | Self::Timestamp(number) => Some(*number),
            _ => None,
        }
    }
}

impl PartialEq for SqlValue<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Text(one), Self::Text(two)) => one == two,
            (Self::Integer(one), Self::Integer(two)) | (Self::Timestamp(one), Self::Timestamp(two)) => {
                one == two
            }
            (Self::Double(one), Self::Double(two)) => one.to_bits() == two.to_bits(),
            _ => false,
        }
    }
}

impl Eq for SqlValue<'_> {}

impl Hash for SqlValue<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Self::Null => {}
            Self::Text(text) => text.hash(state),
            Self::Integer(number) | Self::Timestamp(number) => number.hash(state),
            Self::Double(double) => double.to_bits().hash(state),
        }
    }
}

impl std::fmt::Display for SqlValue<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Double(double) => write!(f, "{double:?} ({:016x})", double.to_bits()),
            Self::Timestamp(micros) => write!(f, "{micros} µs"),
        }
    }
}

impl<'a> FromSql<'a> for SqlValue<'a> {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(match *ty {
            Type::TEXT => Self::text(<&str>::from_sql(ty, raw)?),
            Type::INT4 => Self::Integer(i32::from_sql(ty, raw)?.into()),
            Type::INT8 => Self::Integer(i64::from_sql(ty, raw)?),
            Type::FLOAT8 => Self::Double(f64::from_sql(ty, raw)?),
            _ => Self::Timestamp(i64::from_sql(&Type::INT8, raw)?.saturating_add(POSTGRES_EPOCH_MICROS)),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self::Null)
    }

    fn accepts(ty: &Type) -> bool {
        is_supported(ty)
    }
}

impl ToSql for SqlValue<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Text(text) => text.as_ref().to_sql(ty, out),
            Self::Integer(number) if *ty == Type::INT4 => i32::try_from(*number)?.to_sql(ty, out),
            Self::Integer(number) => number.to_sql(ty, out),
            Self::Double(double) => double.to_sql(ty, out),
            Self::Timestamp(micros) => micros.saturating_sub(POSTGRES_EPOCH_MICROS).to_sql(ty, out),
        }
    }

    fn accepts(ty: &Type) -> bool {
        is_supported(ty)
    }

    to_sql_checked!();
}

fn is_supported(ty: &Type) -> bool {
    [Type::TEXT, Type::INT4, Type::INT8, Type::FLOAT8, Type::TIMESTAMPTZ].contains(ty)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(value: &SqlValue<'_>, ty: &Type) -> SqlValue<'static> {
        let mut bytes = BytesMut::new();
        assert!(matches!(value.to_sql(ty, &mut bytes).unwrap(), IsNull::No));
        match SqlValue::from_sql(ty, &bytes).unwrap() {
            SqlValue::Text(text) => SqlValue::Text(text.into_owned().into()),
            SqlValue::Null => SqlValue::Null,
            SqlValue::Integer(number) => SqlValue::Integer(number),
            SqlValue::Double(double) => SqlValue::Double(double),
            SqlValue::Timestamp(micros) => SqlValue::Timestamp(micros),
        }
    }

    #[test]
    fn values_round_trip_through_the_database_bit_for_bit() {
        let doubles = [8.0e-8, 2.2e3, 0.0005, 62999.5, -0.0, f64::MIN_POSITIVE, 0.1 + 0.2];
        for value in doubles.map(SqlValue::Double) {
            assert_eq!(round_trip(&value, &Type::FLOAT8), value);
        }
        let big = SqlValue::Integer(9_007_199_254_740_993);
        assert_eq!(round_trip(&big, &Type::INT8), big);
        assert_eq!(round_trip(&SqlValue::Integer(-3), &Type::INT4), SqlValue::Integer(-3));
        let time = SqlValue::millis(1_700_000_000_123);
        assert_eq!(round_trip(&time, &Type::TIMESTAMPTZ), time);
        assert_eq!(
            round_trip(&SqlValue::text("9007199254740993"), &Type::TEXT),
            SqlValue::text("9007199254740993")
        );
    }

    #[test]
    fn negative_zero_differs_from_zero_and_null_from_zero() {
        assert_ne!(SqlValue::Double(0.0), SqlValue::Double(-0.0));
        assert_ne!(SqlValue::Null, SqlValue::Integer(0));
        assert_ne!(SqlValue::Integer(1), SqlValue::Timestamp(1));
    }
}
