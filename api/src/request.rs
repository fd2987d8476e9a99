//! Reading requests, with our own words for what is wrong with them.
//!
//! A body is JSON of a known shape; unknown fields are refused by name, so that a misspelt one is noticed at once. How much
//! memory it may take is bounded before it is parsed, by its length and by how many values it holds.

use axum::extract::{
    FromRequest, FromRequestParts, OptionalFromRequest, Request, path::ErrorKind, rejection::PathRejection,
};
use bytes::Bytes;
use chrono::{DateTime, Datelike, Utc};
use http::{HeaderMap, header, request::Parts};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{fmt::Display, str::FromStr};

use crate::{ApiError, Ctx};

/// Longest request body where a route says nothing else: several times what any form of ours holds.
pub const BODY_LIMIT_BYTES: usize = 64 * 1024;

/// Longest body of a job: room for a 10 MB picture as a data URL.
pub const JOB_BODY_LIMIT_BYTES: usize = 14 * 1024 * 1024;

/// Most values in a JSON body. Each takes up to some hundred bytes of memory, however few it took on the way; the longest
/// conversation that a model reads has a few thousand.
const VALUES_MAX: usize = 100_000;

/// Longest body of the route that was asked, which the router says with every request.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimit(pub usize);

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
        Self::of(&read(request, ctx).await?)
    }
}

impl<T: DeserializeOwned> Body<T> {
    fn of(bytes: &[u8]) -> Result<Self, ApiError> {
        let whole = parse(bytes)?;
        let hash = Sha256::digest(whole.to_string()).to_vec();
        Ok(Self { value: shape(whole)?, hash })
    }
}

impl<T: DeserializeOwned> OptionalFromRequest<Ctx> for Body<T> {
    type Rejection = ApiError;

    /// `None` for a request without a body, or with null for one, even if it says that it were JSON, as many programs do.
    async fn from_request(request: Request, ctx: &Ctx) -> Result<Option<Self>, ApiError> {
        if content_type(request.headers()).is_empty() {
            return Ok(None);
        }
        if !is_json(request.headers()) {
            return Err(ApiError::unsupported_media_type());
        }
        let bytes = read(request, ctx).await?;
        if matches!(bytes.trim_ascii(), b"" | b"null") { Ok(None) } else { Self::of(&bytes).map(Some) }
    }
}

/// A JSON body, or the same fields as a page of ours sends them.
#[derive(Debug)]
pub struct Posted<T> {
    /// What was sent.
    pub value: T,
    /// Whether by a page, so that a person waits for another page.
    pub by_page: bool,
}

/// How a browser sends the fields of a page.
const FORM: &str = "application/x-www-form-urlencoded";

impl<T: DeserializeOwned> FromRequest<Ctx> for Posted<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, ctx: &Ctx) -> Result<Self, ApiError> {
        let by_page = content_type(request.headers()) == FORM;
        if !by_page {
            let body = <Body<T> as FromRequest<Ctx>>::from_request(request, ctx).await?;
            return Ok(Self { value: body.value, by_page });
        }
        let fields = form(&read(request, ctx).await?);
        if has_zero(&fields) {
            return Err(zero());
        }
        Ok(Self { value: shape(fields)?, by_page })
    }
}

/// The fields of a page as the JSON they stand for: `a[b]` is the field b of a, and what was left empty is not there.
fn form(bytes: &[u8]) -> Value {
    let mut fields = serde_json::Map::new();
    for (name, text) in url::form_urlencoded::parse(bytes).filter(|(_, text)| !text.is_empty()) {
        let value = Value::String(text.into_owned());
        match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
            Some((outer, inner)) => {
                let outer = fields.entry(outer).or_insert_with(|| Value::Object(serde_json::Map::new()));
                if let Value::Object(outer) = outer {
                    outer.insert(inner.to_owned(), value);
                }
            }
            None => drop(fields.insert(name.into_owned(), value)),
        }
    }
    Value::Object(fields)
}

/// The whole body, as long as the route allows.
///
/// # Errors
/// When it is longer, or does not come to its end in time.
pub async fn read(request: Request, ctx: &Ctx) -> Result<Bytes, ApiError> {
    let limit = request.extensions().get().map_or(BODY_LIMIT_BYTES, |BodyLimit(limit)| *limit);
    tokio::time::timeout(ctx.waits.body, Bytes::from_request(request, ctx))
        .await
        .map_err(|_| ApiError::timed_out())?
        .map_err(|rejection| {
            if rejection.status() == http::StatusCode::PAYLOAD_TOO_LARGE {
                ApiError::too_large(limit)
            } else {
                ApiError::invalid_json("the request body could not be read to its end")
            }
        })
}

fn parse(bytes: &[u8]) -> Result<Value, ApiError> {
    if count_values(bytes) > VALUES_MAX {
        return Err(ApiError::invalid_json(format!("the request body holds more than {VALUES_MAX} values")));
    }
    let whole: Value = serde_json::from_slice(bytes)
        .map_err(|error| ApiError::invalid_json(format!("the request body is not JSON: {error}")))?;
    if has_zero(&whole) { Err(zero()) } else { Ok(whole) }
}

/// How many values a JSON text holds, or a few more: each but the first comes after a comma or begins a list or an object.
fn count_values(bytes: &[u8]) -> usize {
    let (mut count, mut in_text, mut escaped) = (0, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b',' | b'[' | b'{' if !in_text => count += 1,
            _ => {}
        }
    }
    count
}

pub fn zero() -> ApiError {
    ApiError::invalid_json("the request body holds the character U+0000, which we cannot store")
}

fn shape<T: DeserializeOwned>(whole: Value) -> Result<T, ApiError> {
    // Serde would take a list for an object, its fields in order.
    if !whole.is_object() {
        return Err(ApiError::bad_request("invalid_type", "body", "the request body is no JSON object"));
    }
    serde_path_to_error::deserialize(whole).map_err(|error| {
        let (path, inner) = (error.path().to_string(), error.into_inner().to_string());
        refuse_shape(&path, &inner)
    })
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
    // For an unknown field the path leads to it, for a missing one to where it should be.
    let within = |field: String| match path.rsplit('.').next() {
        _ if path == "." => field,
        Some(last) if last == field => path.to_owned(),
        _ => format!("{path}.{field}"),
    };
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

/// What the body says to be, in lower case and without parameters; empty when it says nothing.
pub fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = content_type(headers);
    kind == "application/json" || kind.ends_with("+json")
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
        // Where an id is any text, it may hold the one character that Postgres cannot keep.
        let id = (!text.contains('\0')).then(|| text.parse().ok()).flatten();
        id.map(Self).ok_or_else(|| ApiError::not_found("not_found", Some("id"), "no such id"))
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

/// A query parameter that is one of a few words.
///
/// # Errors
/// 400 naming it and the words, when it is none of them.
pub fn word<T>(
    query: &mut Query,
    name: &str,
    read: impl Fn(&str) -> Option<T>,
    known: &[&str],
) -> Result<Option<T>, ApiError> {
    let Some(text) = query.take::<String>(name)? else { return Ok(None) };
    read(&text).map(Some).ok_or_else(|| {
        ApiError::bad_request("invalid_query", name, format!("{name} is one of {}", known.join(", ")))
    })
}

/// A moment in a query. Postgres keeps no year before 4713 BC, and nothing of ours is from before 1970.
///
/// # Errors
/// 400 naming it, when it is none, or out of all reason.
pub fn moment(query: &mut Query, name: &str) -> Result<Option<DateTime<Utc>>, ApiError> {
    match query.take::<DateTime<Utc>>(name)? {
        Some(moment) if !(1970..=9999).contains(&moment.year()) => {
            let message = format!("{name} is between the years 1970 and 9999");
            Err(ApiError::bad_request("invalid_query", name, message))
        }
        moment => Ok(moment),
    }
}

/// Tells a field that is null from one that is absent.
///
/// # Errors
/// When what is there is not of that type.
pub fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Default of entries of one page of a list.
pub const PAGE_DEFAULT: i64 = 20;
/// Most entries of one page of a list.
pub const PAGE_MAX: i64 = 100;

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

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, test_runner::Config};

    use super::*;

    fn config() -> Config {
        Config { cases: 400, failure_persistence: None, ..Config::default() }
    }

    fn count(value: &Value) -> usize {
        1 + match value {
            Value::Array(items) => items.iter().map(count).sum(),
            Value::Object(fields) => fields.values().map(count).sum::<usize>(),
            _ => 0,
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<i32>().prop_map(|number| Value::from(f64::from(number) / 4.0)),
            any::<String>().prop_map(Value::from),
            "[\"\\\\,{\\[:]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 60, 6, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..6).prop_map(Value::from),
                vec((any::<String>(), inner), 0..6)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    #[test]
    fn no_body_holds_more_values_than_were_counted_before_it_was_read() {
        proptest!(config(), |(value in json(), pretty in any::<bool>())| {
            let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
            // A list or an object that is empty counts as one more.
            let counted = count_values(&text);
            prop_assert!(count(&value) <= counted + 1 && counted <= 2 * count(&value), "{value}: {counted}");
            prop_assert_eq!(parse(&text).ok(), Some(value.clone()).filter(|value| !has_zero(value)));
        });
    }

    #[test]
    fn no_bytes_and_no_nesting_break_the_reader() {
        proptest!(config(), |(bytes in vec(any::<u8>(), 0..200))| {
            if let Ok(value) = parse(&bytes) {
                prop_assert!(!has_zero(&value));
            }
            prop_assert!(form(&bytes).is_object());
        });
        proptest!(config(), |(depth in 1..20_000_usize, open in proptest::sample::select(&["[", "{\"a\":"][..]))| {
            let whole = format!("{}1{}", open.repeat(depth), if open == "[" { "]" } else { "}" }.repeat(depth));
            prop_assert_eq!(parse(whole.as_bytes()).is_ok(), depth < 128);
            prop_assert!(parse(open.repeat(depth).as_bytes()).is_err());
        });
    }

    #[test]
    fn a_query_is_taken_or_refused_and_never_breaks() {
        let pair = prop_oneof![
            ("(limit|after|created_after|metadata)(\\[[a-z\\[\\]]{0,3}\\]?)?", any::<String>()),
            (any::<String>(), "[+-]?[0-9]{1,30}"),
            (
                "created_after",
                "[+-]?[0-9]{1,7}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,12})?(Z|[+-][0-9]{2}:[0-9]{2})"
            ),
        ];
        proptest!(config(), |(pairs in vec(pair, 0..6))| {
            let mut query = Query(pairs);
            let limit = page_limit(&mut query);
            prop_assert!(limit.is_err() || (1..=PAGE_MAX).contains(&limit.unwrap()));
            if let Ok(Some(moment)) = moment(&mut query, "created_after") {
                prop_assert!((1970..=9999).contains(&moment.year()), "{moment}");
            }
            let _ = query.take::<shared::id::JobId>("after");
            let before = query.0.len();
            let taken = query.take_map("metadata").count();
            prop_assert_eq!(query.0.len() + taken, before);
            prop_assert_eq!(query.0.is_empty(), query.finish().is_ok());
        });
    }

    #[test]
    fn an_error_names_a_field_whatever_was_sent() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Form {
            #[serde(rename = "name")]
            _name: String,
            #[serde(rename = "inner")]
            _inner: Option<Inner>,
        }
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Inner {
            #[serde(rename = "count")]
            _count: u8,
        }
        let field =
            prop_oneof![Just("name".to_owned()), Just("inner".to_owned()), any::<String>(), "[`.\"]{1,3}"];
        proptest!(config(), |(fields in vec((field, json()), 0..4))| {
            let _ = shape::<Form>(Value::Object(fields.into_iter().collect()));
        });
    }

    #[test]
    fn values_are_counted_where_they_are_and_not_in_texts() {
        for (json, count) in [
            ("1", 0),
            ("[]", 1),
            ("[1,2,3]", 3),
            (r#"{"a":[{},{}],"b":"x"}"#, 6),
            (r#"["a,[{", "\",[", "\\", 1]"#, 4),
            (r#"{"a,[": "b"}"#, 1),
        ] {
            assert_eq!(count_values(json.as_bytes()), count, "{json}");
        }
    }
}
