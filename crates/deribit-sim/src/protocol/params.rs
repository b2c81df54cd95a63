//! Parameters of a call. Those of an HTTP GET are all text, so a number may come as text everywhere.

use serde_json::{Map, Value};

use super::RpcError;
use crate::market::MarketTime;

/// Parameters by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Params(Map<String, Value>);

impl Params {
    /// Of the query of an HTTP GET.
    pub(crate) fn of_query(query: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(query.into_iter().map(|(name, value)| (name, Value::String(value))).collect())
    }

    /// Of a request's `params`, which may be missing.
    pub(crate) fn of_json(params: Option<Value>) -> Result<Self, RpcError> {
        match params {
            None | Some(Value::Null) => Ok(Self::default()),
            Some(Value::Object(params)) => Ok(Self(params)),
            Some(_) => Err(RpcError::invalid_param("params", "must be an object")),
        }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, RpcError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(RpcError::invalid_param(name, "must be a string")),
        }
    }

    pub(crate) fn required_text(&self, name: &str) -> Result<&str, RpcError> {
        self.text(name)?.ok_or_else(|| missing(name))
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, RpcError> {
        let number = match self.get(name) {
            None => return Ok(None),
            Some(Value::String(text)) => text.parse().ok(),
            Some(value) => value.as_u64(),
        };
        number.map(Some).ok_or_else(|| RpcError::invalid_param(name, "must be an integer, 0 or more"))
    }

    pub(crate) fn required_number(&self, name: &str) -> Result<u64, RpcError> {
        self.number(name)?.ok_or_else(|| missing(name))
    }

    pub(crate) fn time(&self, name: &str) -> Result<Option<MarketTime>, RpcError> {
        Ok(self.number(name)?.map(MarketTime))
    }

    pub(crate) fn flag(&self, name: &str) -> Result<bool, RpcError> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::String(text)) if text == "true" => Ok(true),
            Some(Value::String(text)) if text == "false" => Ok(false),
            Some(_) => Err(RpcError::invalid_param(name, "must be a boolean")),
        }
    }

    pub(crate) fn list(&self, name: &str) -> Result<Vec<&str>, RpcError> {
        let Some(Value::Array(items)) = self.get(name) else {
            return Err(RpcError::invalid_param(name, "must be an array of strings"));
        };
        let texts: Option<Vec<_>> = items.iter().map(Value::as_str).collect();
        texts.ok_or_else(|| RpcError::invalid_param(name, "must be an array of strings"))
    }
}

fn missing(name: &str) -> RpcError {
    RpcError::invalid_param(name, "required")
}
