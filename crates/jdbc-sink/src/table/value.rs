//! One value of a row, the same whether it comes from a record or from the database.

use std::borrow::Cow;
use std::error::Error;
use std::hash::{Hash, Hasher};

use bytes::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// Microseconds from 1970 to 2000, where PostgreSQL's times begin.
const EPOCH: i64 = 946_684_800_000_000;

/// A value; two are equal if nothing tells them apart, doubles by their bits.
#[derive(Debug, Clone)]
pub enum Cell<'a> {
    /// Nothing.
    Null,
    /// A name, an id.
    Text(Cow<'a, str>),
    /// `bigint` and `integer`.
    Whole(i64),
    /// `double precision`.
    Double(f64),
    /// `timestamptz`, in microseconds since 1970.
    Time(i64),
}

impl<'a> Cell<'a> {
    /// A text.
    pub fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    /// A text or nothing.
    pub fn maybe_text(text: Option<&'a str>) -> Self {
        text.map_or(Self::Null, Self::text)
    }

    /// A double or nothing.
    #[must_use]
    pub fn maybe_double(double: Option<f64>) -> Self {
        double.map_or(Self::Null, Self::Double)
    }

    /// A whole number or nothing.
    pub fn maybe_whole(whole: Option<impl Into<i64>>) -> Self {
        whole.map_or(Self::Null, |whole| Self::Whole(whole.into()))
    }

    /// A time from milliseconds since 1970.
    #[must_use]
    pub fn millis(millis: i64) -> Self {
        Self::Time(millis.saturating_mul(1000))
    }

    /// Its place in an order, for whole numbers and times.
    #[must_use]
    pub fn rank(&self) -> Option<i64> {
        match self {
            Self::Whole(number) | Self::Time(number) => Some(*number),
            _ => None,
        }
    }
}

impl PartialEq for Cell<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Text(one), Self::Text(two)) => one == two,
            (Self::Whole(one), Self::Whole(two)) | (Self::Time(one), Self::Time(two)) => one == two,
            (Self::Double(one), Self::Double(two)) => one.to_bits() == two.to_bits(),
            _ => false,
        }
    }
}

impl Eq for Cell<'_> {}

impl Hash for Cell<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Self::Null => {}
            Self::Text(text) => text.hash(state),
            Self::Whole(number) | Self::Time(number) => number.hash(state),
            Self::Double(double) => double.to_bits().hash(state),
        }
    }
}

impl std::fmt::Display for Cell<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Whole(number) => write!(f, "{number}"),
            Self::Double(double) => write!(f, "{double:?} ({:016x})", double.to_bits()),
            Self::Time(micros) => write!(f, "{micros} µs"),
        }
    }
}

impl<'a> FromSql<'a> for Cell<'a> {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(match *ty {
            Type::TEXT => Self::text(<&str>::from_sql(ty, raw)?),
            Type::INT4 => Self::Whole(i32::from_sql(ty, raw)?.into()),
            Type::INT8 => Self::Whole(i64::from_sql(ty, raw)?),
            Type::FLOAT8 => Self::Double(f64::from_sql(ty, raw)?),
            _ => Self::Time(i64::from_sql(&Type::INT8, raw)?.saturating_add(EPOCH)),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self::Null)
    }

    fn accepts(ty: &Type) -> bool {
        is_known(ty)
    }
}

impl ToSql for Cell<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Text(text) => text.as_ref().to_sql(ty, out),
            Self::Whole(number) if *ty == Type::INT4 => i32::try_from(*number)?.to_sql(ty, out),
            Self::Whole(number) => number.to_sql(ty, out),
            Self::Double(double) => double.to_sql(ty, out),
            Self::Time(micros) => micros.saturating_sub(EPOCH).to_sql(ty, out),
        }
    }

    fn accepts(ty: &Type) -> bool {
        is_known(ty)
    }

    to_sql_checked!();
}

fn is_known(ty: &Type) -> bool {
    [Type::TEXT, Type::INT4, Type::INT8, Type::FLOAT8, Type::TIMESTAMPTZ].contains(ty)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(cell: &Cell<'_>, ty: &Type) -> Cell<'static> {
        let mut bytes = BytesMut::new();
        assert!(matches!(cell.to_sql(ty, &mut bytes).unwrap(), IsNull::No));
        match Cell::from_sql(ty, &bytes).unwrap() {
            Cell::Text(text) => Cell::Text(text.into_owned().into()),
            Cell::Null => Cell::Null,
            Cell::Whole(number) => Cell::Whole(number),
            Cell::Double(double) => Cell::Double(double),
            Cell::Time(micros) => Cell::Time(micros),
        }
    }

    #[test]
    fn what_goes_into_the_database_comes_back_the_same_to_the_last_bit() {
        let doubles = [8.0e-8, 2.2e3, 0.0005, 62999.5, -0.0, f64::MIN_POSITIVE, 0.1 + 0.2];
        for cell in doubles.map(Cell::Double) {
            assert_eq!(there_and_back(&cell, &Type::FLOAT8), cell);
        }
        let big = Cell::Whole(9_007_199_254_740_993);
        assert_eq!(there_and_back(&big, &Type::INT8), big);
        assert_eq!(there_and_back(&Cell::Whole(-3), &Type::INT4), Cell::Whole(-3));
        let time = Cell::millis(1_700_000_000_123);
        assert_eq!(there_and_back(&time, &Type::TIMESTAMPTZ), time);
        assert_eq!(
            there_and_back(&Cell::text("9007199254740993"), &Type::TEXT),
            Cell::text("9007199254740993")
        );
    }

    #[test]
    fn a_zero_and_its_negative_are_told_apart_and_so_are_null_and_zero() {
        assert_ne!(Cell::Double(0.0), Cell::Double(-0.0));
        assert_ne!(Cell::Null, Cell::Whole(0));
        assert_ne!(Cell::Whole(1), Cell::Time(1));
    }
}
