//! Reports about the platform as a whole, for operators.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use chrono::NaiveDate;
use http::HeaderMap;
use rust_decimal::Decimal;
use serde::Serialize;
use utoipa::ToSchema;

use super::usage::span;
use crate::{
    ApiError, Ctx,
    request::{Query, word},
    schema,
    sheet::{Cell, Format, Sheet, attachment},
};
use shared::{
    id::AccountId,
    usage::{self, By, Line, Ratings},
};

const HEADINGS: [&str; 7] = [
    "revenue_tokens",
    "revenue_usd",
    "cost_usd",
    "margin_usd",
    "margin_percent",
    "attempts",
    "failed_attempts",
];

/// What the platform earned on some days and what that cost it.
#[derive(Debug, Serialize, ToSchema)]
pub struct MarginReport {
    #[schema(pattern = "^list$")]
    object: &'static str,
    /// What it is broken down by.
    #[schema(value_type = schema::MarginGroup)]
    group_by: &'static str,
    /// The first day.
    from: NaiveDate,
    /// The last day.
    to: NaiveDate,
    #[schema(pattern = "^tokens$")]
    unit: &'static str,
    /// What one token counts as.
    #[schema(value_type = schema::Amount)]
    token_usd: Decimal,
    /// Days in order, anything else by what it earned.
    data: Vec<MarginLine>,
    /// All of it together.
    totals: MarginSums,
}

/// What was earned with one of them.
#[derive(Debug, Serialize, ToSchema)]
pub struct MarginLine {
    #[serde(flatten)]
    of: MarginOf,
    #[serde(flatten)]
    sums: MarginSums,
}

/// With what a line's sums were earned.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MarginOf {
    /// A model.
    Model(Option<String>),
    /// A provider.
    Provider(Option<String>),
    /// An account.
    Account(MarginAccount),
    /// A day.
    #[schema(value_type = Option<NaiveDate>)]
    Day(Option<String>),
}

/// An account in a report.
#[derive(Debug, Serialize, ToSchema)]
pub struct MarginAccount {
    #[schema(value_type = Option<schema::AccountId>, required)]
    id: Option<AccountId>,
    #[schema(required)]
    name: Option<String>,
}

/// Revenue and cost.
#[derive(Debug, Serialize, ToSchema)]
pub struct MarginSums {
    /// Tokens charged.
    revenue_tokens: i64,
    /// What they are worth.
    #[schema(value_type = schema::Amount)]
    revenue_usd: Decimal,
    /// What the attempts cost.
    #[schema(value_type = schema::Amount)]
    cost_usd: Decimal,
    /// What is left.
    #[schema(value_type = schema::Amount)]
    margin_usd: Decimal,
    /// The same of a hundred, to two places; null where nothing was earned.
    #[schema(value_type = Option<schema::Amount>, required)]
    margin_percent: Option<Decimal>,
    /// Attempts that ended.
    #[schema(minimum = 0)]
    attempts: i64,
    /// Of these, those without a result.
    #[schema(minimum = 0)]
    failed_attempts: i64,
}

/// What people thought of results on some days.
#[derive(Debug, Serialize, ToSchema)]
pub struct FeedbackReport {
    #[schema(pattern = "^list$")]
    object: &'static str,
    /// The first day.
    from: NaiveDate,
    /// The last day.
    to: NaiveDate,
    /// What was disliked most first.
    data: Vec<FeedbackLine>,
    /// All of it together.
    totals: FeedbackTotals,
}

/// What was said of the results of a model by a provider.
#[derive(Debug, Serialize, ToSchema)]
pub struct FeedbackLine {
    model: String,
    provider: String,
    #[schema(minimum = 0)]
    likes: i64,
    #[schema(minimum = 0)]
    dislikes: i64,
}

/// How often results were liked, and how often not.
#[derive(Debug, Serialize, ToSchema)]
pub struct FeedbackTotals {
    #[schema(minimum = 0)]
    likes: i64,
    #[schema(minimum = 0)]
    dislikes: i64,
}

/// Revenue, cost and margin over some days, by model, provider, account or day.
///
/// Counted as revenue are the tokens that jobs were charged, at the catalogue's `token_usd`, wherever the tokens came from:
/// bought, part of a plan, or a gift. Not counted are what people paid for plans, tokens that expired unused, and jobs that
/// a plan paid for ("unlimited", or free for subscribers): these charged nothing, so they show as cost alone. Cost is that
/// of every attempt, failed ones included, by the day on which it ended.
#[utoipa::path(
    get,
    path = "/v1/admin/reports/margin",
    params(
        ("group_by" = inline(Option<schema::MarginGroup>), Query, description = "What it is broken down by; `day` if not said"),
        ("from" = Option<NaiveDate>, Query, description = "The first day; thirty days up to `to` if not said"),
        ("to" = Option<NaiveDate>, Query, description = "The last day; today if not said"),
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
            content((MarginReport = "application/json"), (String = "text/csv"))
        ),
    )
)]
pub async fn margin(
    State(ctx): State<Ctx>,
    headers: HeaderMap,
    mut query: Query,
) -> Result<Response, ApiError> {
    let format = Format::of(&mut query, &headers)?;
    let read = |word: &str| By::ALL.into_iter().find(|by| by.word() == word);
    let by = word(&mut query, "group_by", read, &By::ALL.map(By::word))?.unwrap_or(By::Day);
    let span = span(&mut query, ctx.clock.now())?;
    query.finish()?;
    let lines = usage::margin(&ctx.db, by, span).await?;
    let token_usd = ctx.catalog.token_usd();
    match format {
        Format::Csv => {
            let name = format!("margin-by-{}-{}-{}.csv", by.word(), span.from(), span.to());
            Ok(attachment(&name, sheet(by, &lines, token_usd)))
        }
        Format::Json => {
            let mut totals = Line::default();
            lines.iter().for_each(|line| totals.add(line));
            let show =
                |line: Line| MarginLine { sums: sums(&line, token_usd), of: of(by, line.account, line.word) };
            let answer = MarginReport {
                object: "list",
                group_by: by.word(),
                from: span.from(),
                to: span.to(),
                unit: "tokens",
                token_usd,
                data: lines.into_iter().map(show).collect(),
                totals: sums(&totals, token_usd),
            };
            Ok(Json(answer).into_response())
        }
    }
}

/// What people thought of results over some days, by model and by who made them, what was disliked most first.
#[utoipa::path(
    get,
    path = "/v1/admin/reports/feedback",
    params(
        ("from" = Option<NaiveDate>, Query, description = "The first day; thirty days up to `to` if not said"),
        ("to" = Option<NaiveDate>, Query, description = "The last day; today if not said"),
    ),
    responses((status = 200, description = "The report", body = FeedbackReport))
)]
pub async fn feedback(State(ctx): State<Ctx>, mut query: Query) -> Result<Json<FeedbackReport>, ApiError> {
    let span = span(&mut query, ctx.clock.now())?;
    query.finish()?;
    let lines = usage::ratings(&ctx.db, span).await?;
    let all = |count: fn(&Ratings) -> i64| lines.iter().map(count).sum::<i64>();
    let totals = FeedbackTotals { likes: all(|line| line.likes), dislikes: all(|line| line.dislikes) };
    let data = lines.into_iter().map(|Ratings { model, provider, likes, dislikes }| FeedbackLine {
        model,
        provider,
        likes,
        dislikes,
    });
    Ok(Json(FeedbackReport {
        object: "list",
        from: span.from(),
        to: span.to(),
        data: data.collect(),
        totals,
    }))
}

fn of(by: By, account: Option<AccountId>, word: Option<String>) -> MarginOf {
    match by {
        By::Model => MarginOf::Model(word),
        By::Provider => MarginOf::Provider(word),
        By::Account => MarginOf::Account(MarginAccount { id: account, name: word }),
        By::Day => MarginOf::Day(word),
    }
}

fn sums(line: &Line, token_usd: Decimal) -> MarginSums {
    MarginSums {
        revenue_tokens: line.revenue_tokens,
        revenue_usd: line.revenue_usd(token_usd),
        cost_usd: line.cost_usd.normalize(),
        margin_usd: line.margin_usd(token_usd),
        margin_percent: line.margin_percent(token_usd),
        attempts: line.attempts,
        failed_attempts: line.failed_attempts,
    }
}

fn sheet(by: By, lines: &[Line], token_usd: Decimal) -> Vec<u8> {
    let group: &[&str] = if by == By::Account { &["account", "account_name"] } else { &[by.word()] };
    let mut sheet = Sheet::headed(&[group, &HEADINGS].concat());
    for line in lines {
        let percent = line.margin_percent(token_usd);
        let mut cells = if by == By::Account { vec![Cell::text(line.account)] } else { Vec::new() };
        cells.extend([
            Cell::text(line.word.as_ref()),
            Cell::number(line.revenue_tokens),
            Cell::number(line.revenue_usd(token_usd)),
            Cell::number(line.cost_usd.normalize()),
            Cell::number(line.margin_usd(token_usd)),
            Cell::number(percent.map(|percent| percent.to_string()).unwrap_or_default()),
            Cell::number(line.attempts),
            Cell::number(line.failed_attempts),
        ]);
        sheet.row(&cells);
    }
    sheet.into_bytes()
}
