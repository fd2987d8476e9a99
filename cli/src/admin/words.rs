//! What may be typed: each word is read once, and a wrong one is told what would be right.

use anyhow::anyhow;
use chrono::{DateTime, NaiveDate, Utc};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use shared::{
    account::{Email, OperatorRole, PER_HOUR_MAX, audit::REASON_LEN},
    billing::REFERENCE_LEN,
    id::UserId,
};

/// Most entries of a list at once.
pub const LIST_MAX: i64 = 1000;
/// Longest name of an account or a key, in characters.
const NAME_LEN: usize = 100;
/// The word that takes something away.
const NONE: &str = "none";

/// An hourly limit of an account's own, or none.
#[derive(Debug, Clone, Copy)]
pub struct PerHour(pub Option<i32>);

/// A role among operators, or none.
#[derive(Debug, Clone, Copy)]
pub struct RoleWord(pub Option<OperatorRole>);

/// A person, by address or by id.
#[derive(Debug, Clone)]
pub enum Person {
    /// By address.
    Email(Email),
    /// By id.
    Id(UserId),
}

/// Reads why something is done.
pub fn reason(text: &str) -> Result<String, String> {
    words(text, REASON_LEN)
}

/// Reads the name under which something happens only once.
pub fn reference(text: &str) -> Result<String, String> {
    words(text, REFERENCE_LEN)
}

/// Reads the name of an account or a key.
pub fn name(text: &str) -> Result<String, String> {
    words(text, NAME_LEN)
}

fn words(text: &str, max: usize) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > max {
        return Err(format!("it has 1 to {max} characters"));
    }
    Ok(text.to_owned())
}

/// Reads an hourly limit.
pub fn per_hour(text: &str) -> Result<PerHour, String> {
    if text == NONE {
        return Ok(PerHour(None));
    }
    let limit = text.parse().ok().filter(|limit| (1..=PER_HOUR_MAX).contains(limit));
    limit
        .map(|limit| PerHour(Some(limit)))
        .ok_or_else(|| format!("a whole number from 1 to {PER_HOUR_MAX}, or {NONE}"))
}

/// Reads a role among operators.
pub fn role() -> impl TypedValueParser<Value = RoleWord> {
    let known = OperatorRole::ALL.map(OperatorRole::word).into_iter().chain([NONE]);
    PossibleValuesParser::new(known).map(|word| RoleWord(OperatorRole::from_word(&word)))
}

/// Reads one of `all`, by its word.
pub fn one_of<T: Copy + Send + Sync + 'static, const N: usize>(
    all: [T; N],
    word: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(all.map(word)).try_map(move |given| {
        let found = all.into_iter().find(|known| word(*known) == given);
        found.ok_or_else(|| anyhow!("unknown word {given:?}").into_boxed_dyn_error())
    })
}

/// Reads whom it is about.
pub fn person(text: &str) -> Result<Person, String> {
    let id = text.parse().map(Person::Id);
    let person = id.or_else(|_| text.parse().map(Person::Email));
    person
        .map_err(|_| "an e-mail address such as name@example.com, or user_ and 32 hexadecimal digits".into())
}

/// Reads a moment.
pub fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    let read = DateTime::parse_from_rfc3339(text).map(|at| at.to_utc());
    read.map_err(|_| "a time such as 2026-01-31T12:00:00Z".into())
}

/// Reads a day.
pub fn day(text: &str) -> Result<NaiveDate, String> {
    NaiveDate::parse_from_str(text, "%Y-%m-%d").map_err(|_| "a day such as 2026-01-31".into())
}
