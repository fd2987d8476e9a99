//! A JSON object read strictly, field by field, with a complaint that names what is wrong.
//!
//! Vendors differ in how they say it, not in what they check, so the checks live here once and each vendor turns
//! a [`Complaint`] into its own error body. Values are only looked at; nothing is deserialised into types, so
//! that a field an adapter sends but no code here reads is still seen.

use std::ops::RangeInclusive;

use axum::http::{HeaderMap, header};
use serde_json::{Map, Value};

/// What is wrong with a request, and with which field of it.
#[derive(Debug)]
pub(crate) struct Complaint {
    /// The field, when one is to blame.
    pub field: Option<String>,
    /// What is wrong, in words a vendor could have used.
    pub text: String,
}

impl Complaint {
    /// A complaint about one field.
    pub fn of(field: &str, text: impl Into<String>) -> Self {
        Self { field: Some(field.to_owned()), text: text.into() }
    }

    /// A complaint about the request as a whole.
    pub fn general(text: impl Into<String>) -> Self {
        Self { field: None, text: text.into() }
    }
}

/// A JSON object under strict eyes.
#[derive(Debug)]
pub(crate) struct Fields<'a>(&'a Map<String, Value>);

/// Parses a request body that must be JSON and say so.
pub(crate) fn read_json(headers: &HeaderMap, body: &[u8]) -> Result<Value, Complaint> {
    let media_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Complaint::general(format!(
            "unsupported content type '{essence}': this method only accepts 'application/json'"
        )));
    }
    serde_json::from_slice(body).map_err(|error| {
        Complaint::general(format!("could not parse the JSON body of your request: {error}"))
    })
}

impl<'a> Fields<'a> {
    /// The object in `value`, which is the part of the request called `name`.
    pub fn of(value: &'a Value, name: &str) -> Result<Self, Complaint> {
        value.as_object().map(Self).ok_or_else(|| Complaint::of(name, format!("'{name}' must be an object")))
    }

    /// Refuses fields the vendor does not know.
    pub fn only(&self, known: &[&str]) -> Result<(), Complaint> {
        match self.0.keys().find(|key| !known.contains(&key.as_str())) {
            Some(stranger) => {
                Err(Complaint::of(stranger, format!("unrecognized request argument supplied: {stranger}")))
            }
            None => Ok(()),
        }
    }

    /// A field that is present and not null.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A text that must be there and not be blank, of at most `chars_max` characters.
    pub fn text(&self, name: &str, chars_max: usize) -> Result<&'a str, Complaint> {
        match self.optional_text(name, chars_max)? {
            Some(text) if !text.trim().is_empty() => Ok(text),
            Some(_) => Err(Complaint::of(name, format!("'{name}' must not be empty"))),
            None => Err(Complaint::of(name, format!("you must provide a '{name}' parameter"))),
        }
    }

    /// A text that may be absent.
    pub fn optional_text(&self, name: &str, chars_max: usize) -> Result<Option<&'a str>, Complaint> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let Some(text) = value.as_str() else {
            return Err(Complaint::of(name, format!("invalid type for '{name}': expected a string")));
        };
        let chars = text.chars().count();
        if chars > chars_max {
            return Err(Complaint::of(
                name,
                format!("'{name}' has {chars} characters, the maximum is {chars_max}"),
            ));
        }
        Ok(Some(text))
    }

    /// One of a few words, or absent; a number where a word belongs is refused.
    pub fn choice(&self, name: &str, allowed: &[&str]) -> Result<Option<&'a str>, Complaint> {
        let Some(text) = self.optional_text(name, usize::MAX)? else { return Ok(None) };
        if !allowed.contains(&text) {
            return Err(Complaint::of(
                name,
                format!("invalid value '{text}' for '{name}', expected one of {allowed:?}"),
            ));
        }
        Ok(Some(text))
    }

    /// A number in a range, or absent; a number in quotes is refused.
    pub fn number(&self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f64>, Complaint> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.as_f64().filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(Complaint::of(
                name,
                format!("'{name}' must be a number from {} to {}", range.start(), range.end()),
            )),
        }
    }

    /// A whole number in a range, or absent.
    pub fn integer(&self, name: &str, range: RangeInclusive<u32>) -> Result<Option<u32>, Complaint> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        match number.filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(Complaint::of(
                name,
                format!("'{name}' must be an integer from {} to {}", range.start(), range.end()),
            )),
        }
    }

    /// True or false, or absent.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, Complaint> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value
            .as_bool()
            .map(Some)
            .ok_or_else(|| Complaint::of(name, format!("invalid type for '{name}': expected a boolean")))
    }

    /// A list that must be there and have something in it.
    pub fn list(&self, name: &str) -> Result<&'a [Value], Complaint> {
        match self.get(name) {
            None => Err(Complaint::of(name, format!("you must provide a '{name}' parameter"))),
            Some(Value::Array(items)) if !items.is_empty() => Ok(items),
            Some(_) => Err(Complaint::of(name, format!("'{name}' must be a list that is not empty"))),
        }
    }
}
