//! What an account used, by model, day, key or person.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Days, NaiveDate, Utc};
use http::HeaderMap;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    ApiError, Ctx,
    access::Caller,
    request::{Query, word},
    schema,
    sheet::{Cell, Format, Sheet, attachment},
};
use shared::{
    id::{KeyId, UserId},
    usage::{self, Group, GroupBy, Quantities, SPAN_DAYS_DEFAULT, Span, SpanError},
};

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

/// What an account used on some days.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageReport {
    #[schema(pattern = "^list$")]
    object: &'static str,
    /// What it is broken down by.
    #[schema(value_type = schema::UsageGroup)]
    group_by: &'static str,
    /// The first day.
    from: NaiveDate,
    /// The last day.
    to: NaiveDate,
    #[schema(pattern = "^tokens$")]
    unit: &'static str,
    /// Days in order, anything else by what was charged.
    data: Vec<UsageLine>,
    /// Always false: a report comes as a whole.
    has_more: bool,
    /// All of it together.
    totals: UsageQuantities,
}

/// What was used of or by one of them.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageLine {
    #[serde(flatten)]
    of: UsageOf,
    #[serde(flatten)]
    used: UsageQuantities,
}

/// Whose quantities a line shows; null is nobody's.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UsageOf {
    /// A model's.
    Model(Option<String>),
    /// A day's.
    #[schema(value_type = Option<NaiveDate>)]
    Day(Option<String>),
    /// An API key's.
    Key(Option<UsageKey>),
    /// A person's who submitted without a key.
    User(Option<UsageUser>),
}

/// An API key in a report.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageKey {
    #[schema(value_type = schema::KeyId)]
    id: KeyId,
    /// As its owner called it.
    #[schema(required)]
    name: Option<String>,
    /// What it begins with.
    #[schema(required)]
    prefix: Option<String>,
}

/// A person in a report.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageUser {
    #[schema(value_type = schema::UserId)]
    id: UserId,
    /// As people call them; null once erased.
    #[schema(required)]
    name: Option<String>,
}

/// What was used.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageQuantities {
    /// Jobs that ended.
    #[schema(minimum = 0)]
    jobs: i64,
    /// Of these, those with a result.
    #[schema(minimum = 0)]
    succeeded: i64,
    /// Of these, those answered from the cache, free.
    #[schema(minimum = 0)]
    cached: i64,
    /// Tokens charged.
    #[schema(minimum = 0)]
    charged: i64,
    /// Tokens of language models' own, read.
    #[schema(minimum = 0)]
    prompt_tokens: i64,
    /// Tokens of language models' own, written.
    #[schema(minimum = 0)]
    completion_tokens: i64,
    /// Pictures made.
    #[schema(minimum = 0)]
    images: i64,
    /// Of video and sound, made or heard.
    #[schema(minimum = 0)]
    seconds: f64,
    /// Spoken.
    #[schema(minimum = 0)]
    characters: i64,
}

/// Usage of the caller's account over some days, which are those of UTC, and on which jobs count when they end.
#[utoipa::path(
    get,
    path = "/v1/usage",
    params(
        ("group_by" = inline(Option<schema::UsageGroup>), Query, description = "What it is broken down by; `day` if not said"),
        ("from" = Option<NaiveDate>, Query, description = "The first day; thirty days up to `to` if not said"),
        ("to" = Option<NaiveDate>, Query, description = "The last day; today if not said"),
        ("model" = Option<String>, Query, description = "Only jobs of this model"),
        (
            "format" = inline(Option<schema::ReportFormat>),
            Query,
            description = "`csv` for a table; else as the Accept header wants it",
        ),
    ),
    responses(
        (
            status = 200,
            description = "The report",
            content((UsageReport = "application/json"), (String = "text/csv"))
        ),
    )
)]
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
            let data =
                lines.into_iter().map(|(group, used)| UsageLine { of: of(by, group), used: used.into() });
            let answer = UsageReport {
                object: "list",
                group_by: by.word(),
                from: span.from(),
                to: span.to(),
                unit: "tokens",
                data: data.collect(),
                has_more: false,
                totals: totals.into(),
            };
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

fn of(by: GroupBy, group: Group) -> UsageOf {
    match (by, group) {
        (GroupBy::Model, Group::Word(model)) => UsageOf::Model(Some(model)),
        (GroupBy::Model, _) => UsageOf::Model(None),
        (GroupBy::Day, Group::Word(day)) => UsageOf::Day(Some(day)),
        (GroupBy::Day, _) => UsageOf::Day(None),
        (GroupBy::Key, Group::Key { id, name, prefix }) => UsageOf::Key(Some(UsageKey { id, name, prefix })),
        (GroupBy::Key, _) => UsageOf::Key(None),
        (GroupBy::User, Group::User { id, name }) => UsageOf::User(Some(UsageUser { id, name })),
        (GroupBy::User, _) => UsageOf::User(None),
    }
}

impl From<Quantities> for UsageQuantities {
    fn from(used: Quantities) -> Self {
        Self {
            jobs: used.jobs,
            succeeded: used.succeeded,
            cached: used.cached,
            charged: used.charged,
            prompt_tokens: used.prompt_tokens,
            completion_tokens: used.completion_tokens,
            images: used.images,
            seconds: f64::try_from(used.seconds).unwrap_or_default(),
            characters: used.characters,
        }
    }
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
