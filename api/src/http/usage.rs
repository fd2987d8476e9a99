//! What an account used, by model, day, key or person.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Days, NaiveDate, Utc};
use http::HeaderMap;
use serde_json::{Value, json};

use crate::{
    ApiError, Ctx,
    access::Caller,
    request::{Query, word},
    sheet::{Cell, Format, Sheet, attachment},
};
use shared::usage::{self, Group, GroupBy, Quantities, SPAN_DAYS_DEFAULT, Span, SpanError};

const HEADINGS: [&str; 9] = [
    "jobs",
    "succeeded",
    "cached",
    "charged",
    "prompt_tokens",
    "completion_tokens",
    "images",
    "seconds",
    "characters",
];

/// Usage of the caller's account over some days, which are those of UTC, and on which jobs count when they end.
pub async fn report(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    headers: HeaderMap,
    mut query: Query,
) -> Result<Response, ApiError> {
    let format = Format::of(&mut query, &headers)?;
    let read = |word: &str| GroupBy::ALL.into_iter().find(|by| by.word() == word);
    let by = word(&mut query, "group_by", read, &GroupBy::ALL.map(GroupBy::word))?.unwrap_or(GroupBy::Day);
    let span = span(&mut query, ctx.clock.now())?;
    let model = query.take::<String>("model")?;
    query.finish()?;
    let lines = usage::report(&ctx.db, caller.account, by, span, model.as_deref()).await?;
    match format {
        Format::Csv => {
            let name = format!("usage-by-{}-{}-{}.csv", by.word(), span.from(), span.to());
            Ok(attachment(&name, sheet(by, &lines)))
        }
        Format::Json => {
            let mut totals = Quantities::default();
            lines.iter().for_each(|(_, quantities)| totals += *quantities);
            let data: Vec<_> = lines.iter().map(|(group, quantities)| show(by, group, *quantities)).collect();
            let answer = json!({
                "object": "list", "group_by": by.word(), "from": span.from(), "to": span.to(), "unit": "tokens",
                "data": data, "totals": quantities(totals),
            });
            Ok(Json(answer).into_response())
        }
    }
}

/// The days `from` and `to` of a query: up to today, and thirty of them, unless it says otherwise.
///
/// # Errors
/// 400 naming the one that is wrong.
pub fn span(query: &mut Query, now: DateTime<Utc>) -> Result<Span, ApiError> {
    let (from, to) = (day(query, "from")?, day(query, "to")?);
    let to = to.unwrap_or(now.date_naive());
    let from = from.unwrap_or_else(|| to.checked_sub_days(Days::new(SPAN_DAYS_DEFAULT - 1)).unwrap_or(to));
    Span::new(from, to).map_err(|error| {
        let message = match error {
            SpanError::Backwards => format!("from is {from}, which is after to, {to}"),
            SpanError::TooLong | SpanError::OutOfTime => {
                format!("{error}, and these are from {from} to {to}")
            }
        };
        ApiError::bad_request("invalid_query", "from", message)
    })
}

fn day(query: &mut Query, name: &str) -> Result<Option<NaiveDate>, ApiError> {
    let Some(text) = query.take::<String>(name)? else { return Ok(None) };
    NaiveDate::parse_from_str(&text, "%Y-%m-%d").map(Some).map_err(|_| {
        let message = format!("{name} is a day such as 2026-01-31, and not {text:?}");
        ApiError::bad_request("invalid_query", name, message)
    })
}

fn show(by: GroupBy, group: &Group, used: Quantities) -> Value {
    let mut shown = quantities(used);
    shown[by.word()] = match group {
        Group::Word(word) => json!(word),
        Group::Key { id, name, prefix } => json!({ "id": id, "name": name, "prefix": prefix }),
        Group::User { id, name } => json!({ "id": id, "name": name }),
        Group::None => Value::Null,
    };
    shown
}

fn quantities(used: Quantities) -> Value {
    json!({
        "jobs": used.jobs, "succeeded": used.succeeded, "cached": used.cached, "charged": used.charged,
        "prompt_tokens": used.prompt_tokens, "completion_tokens": used.completion_tokens, "images": used.images,
        "seconds": f64::try_from(used.seconds).unwrap_or_default(), "characters": used.characters,
    })
}

fn sheet(by: GroupBy, lines: &[(Group, Quantities)]) -> Vec<u8> {
    let group: &[&str] = match by {
        GroupBy::Model | GroupBy::Day => &[by.word()],
        GroupBy::Key => &["key", "key_name", "key_prefix"],
        GroupBy::User => &["user", "user_name"],
    };
    let mut sheet = Sheet::headed(&[group, &HEADINGS].concat());
    for (of, used) in lines {
        let mut cells = match of {
            Group::Word(word) => vec![Cell::text(Some(word))],
            Group::Key { id, name, prefix } => {
                vec![Cell::text(Some(id)), Cell::text(name.as_ref()), Cell::text(prefix.as_ref())]
            }
            Group::User { id, name } => vec![Cell::text(Some(id)), Cell::text(name.as_ref())],
            Group::None => vec![Cell::text(None::<&str>); group.len()],
        };
        cells.extend(counts(*used));
        sheet.row(&cells);
    }
    sheet.into_bytes()
}

fn counts(used: Quantities) -> [Cell; HEADINGS.len()] {
    [
        Cell::number(used.jobs),
        Cell::number(used.succeeded),
        Cell::number(used.cached),
        Cell::number(used.charged),
        Cell::number(used.prompt_tokens),
        Cell::number(used.completion_tokens),
        Cell::number(used.images),
        Cell::number(used.seconds.normalize()),
        Cell::number(used.characters),
    ]
}
