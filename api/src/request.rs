//! Reading requests, with our own words for what is wrong with them.
//!
//! A body is JSON of a known shape; unknown fields are refused by name, so that a misspelt one is noticed at once.

use axum::extract::{FromRequest, FromRequestParts, Request, path::ErrorKind, rejection::PathRejection};
use bytes::Bytes;
use http::{HeaderMap, header, request::Parts};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{fmt::Display, str::FromStr, time::Duration};

use crate::{ApiError, Ctx};

/// Longest request body: room for a 10 MB picture as a data URL.
pub const BODY_LIMIT_BYTES: usize = 14 * 1024 * 1024;

/// Longest time a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// A JSON body, and a hash of its meaning.
#[derive(Debug)]
pub struct Body<T> {
    /// What was sent.
    pub value: T,
    /// SHA-256 of the body with its keys in order, so that spacing and order of fields do not matter.
    pub hash: Vec<u8>,
}

impl<T: DeserializeOwned> FromRequest<Ctx> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, ctx: &Ctx) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::unsupported_media_type());
        }
        let bytes = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, ctx))
            .await
            .map_err(|_| ApiError::timed_out())?
            .map_err(|rejection| {
                if rejection.status() == http::StatusCode::PAYLOAD_TOO_LARGE {
                    ApiError::too_large(BODY_LIMIT_BYTES)
                } else {
                    ApiError::invalid_json("the request body could not be read to its end")
                }
            })?;
        let whole: Value = serde_json::from_slice(&bytes)
            .map_err(|error| ApiError::invalid_json(format!("the request body is not JSON: {error}")))?;
        if has_zero(&whole) {
            return Err(ApiError::invalid_json(
                "the request body holds the character U+0000, which we cannot store",
            ));
        }
        let hash = Sha256::digest(whole.to_string()).to_vec();
        let value = serde_path_to_error::deserialize(whole).map_err(|error| {
            let (path, inner) = (error.path().to_string(), error.into_inner().to_string());
            refuse_shape(&path, &inner)
        })?;
        Ok(Self { value, hash })
    }
}

/// Whether any text in it holds the one character that Postgres cannot keep.
fn has_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_zero),
        Value::Object(fields) => fields.iter().any(|(name, value)| name.contains('\0') || has_zero(value)),
        _ => false,
    }
}

/// Turns serde's words into an error that names the field.
fn refuse_shape(path: &str, inner: &str) -> ApiError {
    let quoted =
        |words: &str| inner.strip_prefix(words).and_then(|rest| rest.split('`').next()).map(str::to_owned);
    let within =
        |field: String| if path == "." || path.ends_with(&field) { field } else { format!("{path}.{field}") };
    if let Some(field) = quoted("unknown field `") {
        return ApiError::bad_request(
            "unknown_field",
            within(field.clone()),
            format!("unknown field {field:?}"),
        );
    }
    if let Some(field) = quoted("missing field `") {
        return ApiError::bad_request(
            "missing_field",
            within(field.clone()),
            format!("the field {field:?} is missing"),
        );
    }
    let param = if path == "." { "body" } else { path };
    ApiError::bad_request("invalid_type", param, inner)
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let kind = value.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json") || kind.to_ascii_lowercase().ends_with("+json")
}

/// The id in a path; one of the wrong form is simply not found.
#[derive(Debug, Clone, Copy)]
pub struct PathId<T>(pub T);

impl<T: FromStr + Send> FromRequestParts<Ctx> for PathId<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, ctx: &Ctx) -> Result<Self, ApiError> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, ctx).await;
        let text = path.map_err(|rejection| match rejection {
            PathRejection::FailedToDeserializePathParams(failed)
                if matches!(failed.kind(), ErrorKind::InvalidUtf8InPathParam { .. }) =>
            {
                ApiError::not_found("not_found", Some("id"), "no such id")
            }
            _ => ApiError::internal(),
        })?;
        text.parse().map(Self).map_err(|_| ApiError::not_found("not_found", Some("id"), "no such id"))
    }
}

/// The pairs of a query string, each to be asked for by name; what nobody asked for is refused.
#[derive(Debug)]
pub struct Query(Vec<(String, String)>);

impl FromRequestParts<Ctx> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Ctx) -> Result<Self, ApiError> {
        let text = parts.uri.query().unwrap_or_default();
        let pairs: Vec<(String, String)> =
            url::form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        if pairs.iter().any(|(name, value)| name.contains('\0') || value.contains('\0')) {
            let message = "the query holds the character U+0000";
            return Err(ApiError::bad_request("invalid_query", "query", message));
        }
        Ok(Self(pairs))
    }
}

impl Query {
    /// Takes the pair called `name`, read as a `T`.
    ///
    /// # Errors
    /// 400 naming it, when it cannot be read.
    pub fn take<T: FromStr<Err: Display>>(&mut self, name: &str) -> Result<Option<T>, ApiError> {
        let Some(at) = self.0.iter().position(|(known, _)| known == name) else { return Ok(None) };
        let (_, text) = self.0.swap_remove(at);
        text.parse().map(Some).map_err(|error| {
            ApiError::bad_request(
                "invalid_query",
                name,
                format!("{name} cannot be read from {text:?}: {error}"),
            )
        })
    }

    /// Takes every pair of the form `name[key]=value`.
    pub fn take_map(&mut self, name: &str) -> impl Iterator<Item = (String, String)> + use<> {
        let (inside, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.0).into_iter().partition(|(key, _)| {
                key.strip_prefix(name).is_some_and(|rest| rest.starts_with('[') && rest.ends_with(']'))
            });
        self.0 = rest;
        let skip = name.len() + 1;
        inside.into_iter().map(move |(key, value)| (key[skip..key.len() - 1].to_owned(), value))
    }

    /// Refuses what is left.
    ///
    /// # Errors
    /// 400 naming the first pair that nobody took.
    pub fn finish(self) -> Result<(), ApiError> {
        match self.0.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => {
                let message = format!("this path does not know the query parameter {name:?}");
                Err(ApiError::bad_request("unknown_query", name, message))
            }
        }
    }
}

/// Default and most entries of one page of a list.
const PAGE_DEFAULT: i64 = 20;
const PAGE_MAX: i64 = 100;

/// The `limit` of a list.
///
/// # Errors
/// 400 when it is not between 1 and 100.
pub fn page_limit(query: &mut Query) -> Result<i64, ApiError> {
    match query.take::<i64>("limit")? {
        None => Ok(PAGE_DEFAULT),
        Some(limit) if (1..=PAGE_MAX).contains(&limit) => Ok(limit),
        Some(_) => {
            Err(ApiError::bad_request("invalid_query", "limit", format!("limit is between 1 and {PAGE_MAX}")))
        }
    }
}
