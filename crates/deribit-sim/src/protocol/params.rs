//! Parameters of a request. Those of an HTTP GET are all text, so every number may come as text.

use serde_json::{Map, Value};

use super::ProtocolError;
use crate::market::MarketTime;

/// Named parameters; null counts as missing.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RequestParams(Map<String, Value>);

impl RequestParams {
    /// The parameters in the query of an HTTP GET.
    pub(crate) fn of_query(query: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(query.into_iter().map(|(name, value)| (name, Value::String(value))).collect())
    }

    /// The parameters in a request's `params`, which may be missing.
    pub(crate) fn of_json(params: Option<Value>) -> Result<Self, ProtocolError> {
        match params {
            None | Some(Value::Null) => Ok(Self::default()),
            Some(Value::Object(params)) => Ok(Self(params)),
            Some(_) => Err(ProtocolError::invalid_param("params", "must be an object")),
        }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, ProtocolError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(ProtocolError::invalid_param(name, "must be a string")),
        }
    }

    pub(crate) fn required_text(&self, name: &str) -> Result<&str, ProtocolError> {
        self.text(name)?.ok_or_else(|| missing(name))
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, ProtocolError> {
        let number = match self.get(name) {
            None => return Ok(None),
            Some(Value::String(text)) => text.parse().ok(),
            Some(value) => value.as_u64(),
        };
        number.map(Some).ok_or_else(|| ProtocolError::invalid_param(name, "must be an integer, 0 or more"))
    }

    pub(crate) fn required_number(&self, name: &str) -> Result<u64, ProtocolError> {
        self.number(name)?.ok_or_else(|| missing(name))
    }

    pub(crate) fn time(&self, name: &str) -> Result<Option<MarketTime>, ProtocolError> {
        Ok(self.number(name)?.map(MarketTime))
    }

    pub(crate) fn flag(&self, name: &str) -> Result<bool, ProtocolError> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::String(text)) if text == "true" => Ok(true),
            Some(Value::String(text)) if text == "false" => Ok(false),
            Some(_) => Err(ProtocolError::invalid_param(name, "must be a boolean")),
        }
    }

    pub(crate) fn list(&self, name: &str) -> Result<Vec<&str>, ProtocolError> {
        let Some(Value::Array(items)) = self.get(name) else {
            return Err(ProtocolError::invalid_param(name, "must be an array of strings"));
        };
        let texts: Option<Vec<_>> = items.iter().map(Value::as_str).collect();
        texts.ok_or_else(|| ProtocolError::invalid_param(name, "must be an array of strings"))
    }
}

fn missing(name: &str) -> ProtocolError {
    ProtocolError::invalid_param(name, "required")
}
